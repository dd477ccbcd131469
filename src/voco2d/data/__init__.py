"""Cohorts, crops, augmentations, datasets and the phantom."""
