"""What the template maintains; `copier update` brings its changes. Your own code is one level up."""
