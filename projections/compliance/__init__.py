"""View room: compliance."""
