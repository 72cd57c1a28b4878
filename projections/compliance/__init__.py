"""Compliance as read: screenings, hits, cases."""
