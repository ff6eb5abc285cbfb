"""Side room: searches of settings."""
