"""Measurements that take longer than tests; run from the root of the repository: `python -m benchmarks.NAME`."""
