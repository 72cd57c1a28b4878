"""View room: queries."""
