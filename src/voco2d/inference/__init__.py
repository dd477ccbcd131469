"""From a trained run to predictions and reports."""
