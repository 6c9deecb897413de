"""The `farebox` command: one module a command, what they share beside them."""
