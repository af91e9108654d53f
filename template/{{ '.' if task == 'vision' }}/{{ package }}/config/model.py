"""Types of conf/model; `kind` selects the network."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from ..engine.types import Section, conflict

Share = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class Image(Section):
    """The network's input."""

    size: PositiveInt
    """Pixels, both ways."""
    channels: Literal[1, 3]
    """1 for greyscale, 3 for RGB."""
    mean: Annotated[list[Share], Field(min_length=1, max_length=3)]
    """One for all channels, or one for each, of values from 0 to 1."""
    std: Annotated[list[Deviation], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (1, self.channels):
                raise conflict(key, f"one number, or one for each of {self.channels} channels")
        return self


class Conv(Section):
    """conf/model/base.yaml: a residual network."""

    kind: Literal["conv"]
    image: Image
    stem_stride: PositiveInt
    dims: Annotated[list[PositiveInt], Field(min_length=1)]
    """Channels of each stage."""
    blocks: Annotated[list[PositiveInt], Field(min_length=1)]
    """Residual blocks of each stage."""
    norm_groups: PositiveInt
    dropout: Dropout

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stem_stride & (self.stem_stride - 1):
            raise conflict("stem_stride", "a power of two: 1, 2, 4, 8")
        if len(self.blocks) != len(self.dims):
            raise conflict("blocks", f"{len(self.dims)} numbers, one for each of dims")
        for dim in self.dims:
            if dim % self.norm_groups or dim == self.norm_groups:
                raise conflict(
                    "dims", f"multiples of norm_groups ({self.norm_groups}), 2 x or more"
                )
        return self


class ViT(Section):
    """conf/model/vit_base.yaml: a vision transformer."""

    kind: Literal["vit"]
    image: Image
    patch: PositiveInt
    """Pixels, both ways."""
    dim: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    feedforward_ratio: PositiveInt
    dropout: Dropout

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.image.size % self.patch:
            raise conflict("patch", f"a divisor of image.size ({self.image.size})")
        if self.dim % self.heads:
            raise conflict("dim", f"a multiple of heads ({self.heads})")
        return self


Model = Annotated[Conv | ViT, Field(discriminator="kind")]
