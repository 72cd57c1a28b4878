"""View room: payments."""
