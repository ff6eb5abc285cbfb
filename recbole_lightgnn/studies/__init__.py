"""The experiments of the LightGNN paper, made again: runs, statistics, tables and figures."""
