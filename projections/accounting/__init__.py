"""What a ledger's books are kept by, apart from its accounts and entries: charts, rates, conversions."""
