"""The maths: learning and ranking over arrays, with no Kafka and no I/O but checkpoints."""
