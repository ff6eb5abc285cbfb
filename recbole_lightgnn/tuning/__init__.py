"""Side room: searches of settings, and comparisons of models."""
