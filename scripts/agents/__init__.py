"""What coding agents are told of the policy: texts, announcements, plans, reviews."""
