"""Contracts of the payments context."""
