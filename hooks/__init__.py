"""Before a request is sent: what it is, where it goes, and whether a budget bears it."""
