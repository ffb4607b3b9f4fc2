"""The proof under faults: traffic, workers and a broker that die in every way, and the account.

`recsys soak` runs it for as long as wanted; `tests/faults` runs a short part of it, by seed.
"""
