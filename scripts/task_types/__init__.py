"""Training the classifier of task types from labelled prompts, and measuring one. Never imported by
the proxy."""
