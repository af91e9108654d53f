"""Types of conf/sampling."""

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from ..engine.types import ResumeSafe, Section


class Generation(Section):
    """conf/sampling/default.yaml."""

    prompt: str
    tokens: PositiveInt
    temperature: NonNegativeFloat
    top_k: PositiveInt | None
    seed: NonNegativeInt


Sampling = ResumeSafe[Generation]
