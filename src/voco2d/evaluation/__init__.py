"""Tables in, numbers out; knows no torch."""
