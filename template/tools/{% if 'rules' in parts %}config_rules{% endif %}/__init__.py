"""The linter for conf/ and its use in code: python -m tools.config_rules."""
