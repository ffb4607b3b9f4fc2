"""The wire: everything that knows Kafka, and nothing that knows how to recommend.

Read in the order of an event's way: `events` (what the messages are), `topics` (where they lie),
`codec` (bytes to structs and back), `transport` (Faust hands over one partition's fetch at a time),
`transaction` (all effects of a chunk, or none), `state_log` (state to a compacted topic and back),
`dead_letters` (what could not be read), `replay`, and `broker` (which Kafka it all runs on).
"""
