"""What a ledger's books are kept by, apart from its accounts and entries: its charts of accounts."""
