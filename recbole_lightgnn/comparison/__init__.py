"""Comparisons: run several models on one dataset; make tables and pictures from their records."""
