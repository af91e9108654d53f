"""The engine, kept by the template; it imports nothing of the project's own code."""
