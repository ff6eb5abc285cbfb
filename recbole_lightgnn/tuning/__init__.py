"""Searches of settings with Optuna, and ablations of LightGNN."""
