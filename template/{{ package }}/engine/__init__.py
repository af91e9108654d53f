"""Kept by the template: an update merges what you change here. Your own code is one level up."""
