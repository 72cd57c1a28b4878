"""Sanctions lists: their entries, and a loader for each layout."""
