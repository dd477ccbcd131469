"""Prepared volumes on disk."""
