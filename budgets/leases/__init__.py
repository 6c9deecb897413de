"""Slices of budgets that workers lease, to admit requests from without asking the store."""
