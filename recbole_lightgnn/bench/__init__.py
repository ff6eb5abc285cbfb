"""Benchmarks: check our code and its alternatives, then measure all of them in one run."""
