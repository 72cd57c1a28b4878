"""The payment saga: what must happen for a payment to end, across payments, risk, compliance and the ledger."""
