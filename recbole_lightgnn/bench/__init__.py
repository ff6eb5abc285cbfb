"""Benchmarks. Each checks the results of our code and of its alternatives, then measures them."""
