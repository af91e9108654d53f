"""Types of conf/sheet."""

from typing import Annotated

from pydantic import Field, PositiveInt

from ..engine.types import ResumeSafe, Section


class ContactSheet(Section):
    """conf/sheet/default.yaml."""

    pictures: PositiveInt
    columns: PositiveInt
    pixels: Annotated[int, Field(ge=16)]
    """Width of one picture."""


Sheet = ResumeSafe[ContactSheet]
