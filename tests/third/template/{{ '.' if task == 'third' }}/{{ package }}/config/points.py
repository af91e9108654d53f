"""Types of conf/points."""

from pydantic import NonNegativeInt, PositiveFloat

from ..engine.types import ResumeSafe, Section


class Points(Section):
    """conf/points/default.yaml."""

    scale: PositiveFloat
    decimals: ResumeSafe[NonNegativeInt]
