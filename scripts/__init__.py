"""What a person runs: serving, testing, measuring, and the `farebox` command."""
