"""Silent degradation, caught from the ledger's entries: see `docs/explanation/drift.md`."""
