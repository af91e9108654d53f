"""The parts around the training loop."""
