"""Why the networks answered as they did: the slices and places that speak for an injury."""
