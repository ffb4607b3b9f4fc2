"""Programs that each run in a process of their own: `python -m benchmarks.contenders.NAME JSON`.

Each takes its options as one JSON object and prints its figures as one JSON object, last.
"""
