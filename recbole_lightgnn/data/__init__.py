"""Importers: the formats splits are published in -> RecBole atomic benchmark files.

One module a format (``paper``), each giving the pairs of the three splits to ``atomic``, which
checks, writes and names them in the same way whatever they came from.
"""
