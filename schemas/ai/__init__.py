"""Contracts of the ai context."""
