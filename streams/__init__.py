"""The writer: turns the log into the ledger and the counters, batch by numbered batch (ledger.md)."""
