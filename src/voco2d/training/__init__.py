"""Pretraining and fine-tuning loops with their run folders."""
