"""Benchmarks: `python -m benchmarks.run` measures everything side by side on one machine."""
