"""Ledgers, accounts, transactions and holds. Read ``domain.py`` first."""
