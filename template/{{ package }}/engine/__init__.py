# Kept by the template; an update merges what you change here.
"""Kept by the template: `copier update` brings its changes. Your own code is one level up."""
