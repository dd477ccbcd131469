"""File formats: each module reads one of them into a `Volume`."""
