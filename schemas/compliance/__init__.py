"""Contracts of the compliance context."""
