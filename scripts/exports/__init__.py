"""The ledger's entries in the forms of others: FOCUS, the cost log, Parquet."""
