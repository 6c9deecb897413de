"""The append-only audit trail: who changed the rules, the money or the keys, and why."""
