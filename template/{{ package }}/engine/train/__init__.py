"""What surrounds the training loop."""
