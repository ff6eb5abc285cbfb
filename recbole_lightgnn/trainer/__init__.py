"""The stages, their training, full-ranking evaluation and checkpoints."""
