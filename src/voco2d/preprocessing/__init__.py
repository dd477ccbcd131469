"""From a `Volume` to what the networks see; the same code for training and prediction."""
