"""Rivals that RecBole lacks, one file each: on our graph and losses, by our trainer."""
