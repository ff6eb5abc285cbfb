"""What a run leaves behind: its folder, checkpoints and record, and how they are read again."""
