"""The month's report: gathered from the ledger, and shown as Markdown, HTML or JSON."""
