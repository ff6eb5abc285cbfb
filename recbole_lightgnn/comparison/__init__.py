"""Comparisons: several models on one dataset, run, tabulated and drawn from their records."""
