"""View room: search."""
