"""Contracts of the sagas context."""
