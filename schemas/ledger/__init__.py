"""Contracts of the ledger context."""
