"""Grants and transfers: immutable, expiring changes of what a budget bears in one period."""
