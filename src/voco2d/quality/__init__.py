"""What a prepared series is like: measures, flags, a thumbnail and the page that shows them all."""
