"""After a request: what it cost, who is told, and how it is traced."""
