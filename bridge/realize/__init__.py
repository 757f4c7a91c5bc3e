"""The engine: from a plan to chosen realizations."""
