"""The networks: a residual network and a vision transformer. All sizes arrive as arguments."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config
from .config.model import Conv
from .engine.project import Batch


class Normalize(nn.Module):
    """Pixels of 8 bits to numbers around 0, the shape unchanged."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pictures [items, channels, rows, columns], unsigned integers from 0 to 255."""
        return (pixels / 255 - cast(Tensor, self.mean)) / cast(Tensor, self.std)


class Block(nn.Module):
    """Two convolutions around a shortcut, each behind a norm (He et al. 2016)."""

    def __init__(self, dim_in: int, dim: int, stride: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, dim_in)
        self.conv1 = nn.Conv2d(dim_in, dim, 3, stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, dim)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        same = dim_in == dim and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(dim_in, dim, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [items, dim_in, rows, columns]."""
        inner = F.relu(self.norm1(x))
        shortcut = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(inner)
        inner = self.conv1(inner)
        inner = self.conv2(self.dropout(F.relu(self.norm2(inner))))
        return cast(Tensor, shortcut + inner)


class ResNet(nn.Module):
    """Pictures to classes by stages of residual blocks; each stage halves the positions."""

    def __init__(
        self,
        classes: int,
        channels: int,
        stem_stride: int,
        dims: list[int],
        blocks: list[int],
        norm_groups: int,
        dropout: float,
    ) -> None:
        super().__init__()
        strides = [2] * (stem_stride.bit_length() - 1) or [1]
        stem: list[nn.Module] = [nn.Conv2d(channels, dims[0], 3, strides[0], 1, bias=False)]
        for stride in strides[1:]:
            stem += [nn.GroupNorm(norm_groups, dims[0]), nn.ReLU()]
            stem += [nn.Conv2d(dims[0], dims[0], 3, stride, 1, bias=False)]
        self.stem = nn.Sequential(*stem)
        stages: list[nn.Module] = []
        dim_before = dims[0]
        for stage, (dim, count) in enumerate(zip(dims, blocks, strict=True)):
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                stages.append(Block(dim_before, dim, stride, norm_groups, dropout))
                dim_before = dim
        self.stages = nn.ModuleList(stages)
        self.norm = nn.GroupNorm(norm_groups, dim_before)
        self.head = nn.Linear(dim_before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures [items, channels, rows, columns] to logits [items, classes]."""
        x = self.stem(x)
        for block in self.stages:
            x = block(x)
        return cast(Tensor, self.head(F.relu(self.norm(x)).mean(dim=(2, 3))))


class VisionTransformer(nn.Module):
    """Pictures to classes by attention among their patches (Dosovitskiy et al. 2021)."""

    def __init__(
        self,
        classes: int,
        channels: int,
        size: int,
        patch: int,
        dim: int,
        layers: int,
        heads: int,
        feedforward_ratio: int,
        dropout: float,
    ) -> None:
        super().__init__()
        patches = (size // patch) ** 2
        self.embed = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, patches + 1, dim) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                heads,
                dim_feedforward=feedforward_ratio * dim,
                dropout=dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures [items, channels, size, size] to logits [items, classes]."""
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return cast(Tensor, self.head(self.norm(x[:, 0])))


def build_model(cfg: Config) -> nn.Module:
    """The network that this config describes, with new weights: pixels to logits."""
    model, image, classes = cfg.model, cfg.model.image, len(cfg.data.classes)
    network: nn.Module
    if isinstance(model, Conv):
        network = ResNet(
            classes=classes,
            channels=image.channels,
            stem_stride=model.stem_stride,
            dims=model.dims,
            blocks=model.blocks,
            norm_groups=model.norm_groups,
            dropout=model.dropout,
        )
    else:
        network = VisionTransformer(
            classes=classes,
            channels=image.channels,
            size=image.size,
            patch=model.patch,
            dim=model.dim,
            layers=model.layers,
            heads=model.heads,
            feedforward_ratio=model.feedforward_ratio,
            dropout=model.dropout,
        )
    return nn.Sequential(Normalize(image.mean, image.std), network)


def compute_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | float]:
    """The sum of the batch's training losses, and its weight: the loop divides by all weights.

    Here each item weighs 1.
    """
    logits, classes = model(batch["pictures"]).float(), batch["classes"]
    return F.cross_entropy(logits, classes, reduction="sum"), len(classes)
