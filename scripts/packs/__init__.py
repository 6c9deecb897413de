"""Vendor packs: the same categories and tiers on another vendor's models, as a small overlay."""
