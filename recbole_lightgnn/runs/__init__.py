"""Files that a run writes (folder, checkpoints, record), and functions to read these files."""
