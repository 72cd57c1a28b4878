"""The ledger as read: ledgers, accounts with balances, transactions, entries, holds, trial balance."""
