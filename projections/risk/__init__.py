"""Scores of the AI service as read."""
