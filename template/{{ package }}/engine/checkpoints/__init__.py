"""Checkpoints: files, writing, resuming."""
