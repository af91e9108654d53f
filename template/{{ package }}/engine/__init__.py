"""Kept by the template: `copier update` brings its changes. Your own code is one level up."""
