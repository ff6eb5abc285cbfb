"""Import, download, generate, inspect, check and load datasets.

Each importer (``paper``, ``lightgcn``, ``npz``, ``pairs``) reads one format. It passes the
user-item pairs of the three splits to ``atomic``, which checks them and writes RecBole's atomic
files. ``loaders`` turns these files into RecBole's data loaders.
"""
