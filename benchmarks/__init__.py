"""Benchmarks. None of them is a test, and no test measures time."""
