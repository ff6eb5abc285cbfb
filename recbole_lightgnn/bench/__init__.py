"""Benchmarks: check a result, then measure its time and that of the alternatives in one run."""
