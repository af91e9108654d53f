"""Tools of the project, outside its package."""
