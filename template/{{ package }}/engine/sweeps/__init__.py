"""--multirun."""
