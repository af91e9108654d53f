"""Evaluating and recognizing with a trained model."""
