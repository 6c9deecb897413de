"""Approvals: tickets that ask for money beyond a limit, and what a person allowed by them."""
