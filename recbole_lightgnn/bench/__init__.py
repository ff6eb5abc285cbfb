"""Benchmarks: correctness first, then times beside what they beat, measured in the same run."""
