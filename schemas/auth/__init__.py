"""Contracts of the auth context."""
