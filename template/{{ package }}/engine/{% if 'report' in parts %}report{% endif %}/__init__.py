"""mode=report and curves.png."""
