"""Check what the ledger proves, without the ledger."""
