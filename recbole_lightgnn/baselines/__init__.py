"""Baselines that RecBole does not have, one file each."""
