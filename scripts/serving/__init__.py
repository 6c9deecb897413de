"""What `./scripts/serve` runs: it starts the parts of a governed proxy, and stops them again."""
