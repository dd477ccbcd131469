"""Network services; optional extras."""
