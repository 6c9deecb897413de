"""What is remembered of sessions: the category they have reached, and the group that served."""
