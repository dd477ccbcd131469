"""Self-supervised methods, one module each."""
