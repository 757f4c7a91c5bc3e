"""What users write, and how it becomes a plan of derivations."""
