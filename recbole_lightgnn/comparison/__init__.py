"""What a run leaves behind: the one JSON record, and what is drawn from it."""
