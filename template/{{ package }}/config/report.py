"""Type of what mode=report draws."""

from pydantic import PositiveInt

from ..engine.schema import Section


class Report(Section):
    """The page that compares runs."""

    points: PositiveInt
    """Of all curves together; each run's share of them is the same."""
