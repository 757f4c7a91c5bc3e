"""Asking and walking: what there is, what made it, what used it, and what has changed."""
