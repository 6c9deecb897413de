"""A provider's usage or cost export, compared with the ledger by day and model."""
