"""The network: a decoder with rotary positions, RMSNorm and gated layers; sizes are arguments."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config
from .engine.project import Batch
from .tokenizer import document_token

Cache = dict[int, tuple[Tensor, Tensor]]
"""Keys and values [items, heads, tokens, dim / heads] of the tokens before, for each layer."""


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021): attention depends on how far apart two tokens are."""

    def __init__(self, context: int, head_dim: int, base: float) -> None:
        super().__init__()
        # on the meta device, where checks build the model, torch would import its compiler for it
        steps = torch.arange(0, head_dim, 2, device="cpu") / head_dim
        angles = torch.outer(torch.arange(context, device="cpu"), base**-steps)
        # not in checkpoints: weights fit any context
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, start: int) -> Tensor:
        """Turn x [items, heads, tokens, dim / heads]; its first token is at position `start`."""
        end = start + x.shape[2]
        cos = cast(Tensor, self.cos)[start:end].to(x.dtype)
        sin = cast(Tensor, self.sin)[start:end].to(x.dtype)
        one, other = x.chunk(2, dim=-1)
        return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(
        self, x: Tensor, rotary: Rotary, mask: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        """x [items, tokens, dim]; the mask is [items, 1, tokens, tokens], None for causal."""
        items, tokens, dim = x.shape
        qkv = self.qkv(x).view(items, tokens, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        start = cache[layer][0].shape[2] if cache and layer in cache else 0
        query, key = rotary(query, start), rotary(key, start)
        if cache is not None:
            if start:
                key = torch.cat([cache[layer][0], key], dim=2)
                value = torch.cat([cache[layer][1], value], dim=2)
            cache[layer] = key, value
        x = F.scaled_dot_product_attention(
            *(query, key, value, mask),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask is None and start == 0,
        )
        return cast(Tensor, self.out(x.transpose(1, 2).reshape(items, tokens, dim)))


class Feedforward(nn.Module):
    """A gated layer, SwiGLU (Shazeer 2020)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [items, tokens, dim]."""
        gate, value = self.gate(x).chunk(2, dim=-1)
        return cast(Tensor, self.out(F.silu(gate) * value))


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and around a shortcut."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(dim) for _ in range(2))
        self.attention = Attention(dim, heads, dropout)
        self.feedforward = Feedforward(dim, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, rotary: Rotary, mask: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        """x [items, tokens, dim]."""
        x = x + self.dropout(self.attention(self.norms[0](x), rotary, mask, cache, layer))
        return cast(Tensor, x + self.dropout(self.feedforward(self.norms[1](x))))


class Decoder(nn.Module):
    """Tokens to logits of the next ones."""

    def __init__(
        self,
        vocabulary: int,
        context: int,
        dim: int,
        layers: int,
        heads: int,
        hidden: int,
        rotary_base: float,
        tied: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        rows = -(-vocabulary // 8) * 8  # tensor cores multiply multiples of 8
        self.embedding = nn.Embedding(rows, dim)
        self.rotary = Rotary(context, dim // heads, rotary_base)
        self.layers = nn.ModuleList(Layer(dim, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(dim)
        self.head = nn.Linear(dim, rows, bias=False)
        self.dropout = nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:  # as GPT-2: what 2 * layers shortcuts add up keeps its size
                scale = math.sqrt(2 * layers) if name.endswith("out.weight") else 1
                nn.init.normal_(parameter, std=0.02 / scale)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(
        self, tokens: Tensor, documents: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Tokens [items, tokens] to logits [items, tokens, vocabulary and padding].

        Attention is causal, and within a document where `documents` [items, tokens] numbers them.
        A cache has the tokens before, and gains these.
        """
        mask = None
        if documents is not None:
            mask = (documents[:, None, :, None] == documents[:, None, None, :]).tril()
        x = self.dropout(self.embedding(tokens))
        for number, layer in enumerate(self.layers):
            x = layer(x, self.rotary, mask, cache, number)
        return cast(Tensor, self.head(self.norm(x)))


def build_model(cfg: Config) -> nn.Module:
    """The network that this config describes, with new weights."""
    model = cfg.model
    return Decoder(
        vocabulary=document_token(cfg.data.tokenizer) + 1,
        context=model.context,
        dim=model.dim,
        layers=model.layers,
        heads=model.heads,
        hidden=model.feedforward_dim,
        rotary_base=model.rotary_base,
        tied=model.tied,
        dropout=model.dropout,
    )


def token_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss of each next token in nats, 0 after the end; how many each window has [items]."""
    tokens, targets = batch["tokens"][:, :-1].clamp(min=0), batch["tokens"][:, 1:]
    logits = model(tokens, batch.get("documents")).float()
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none"
    )
    return losses.view(targets.shape), (targets >= 0).sum(1)


def compute_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | float]:
    """The sum of the losses of the batch's tokens, and how many there are."""
    losses, counts = token_losses(model, batch)
    return losses.sum(), counts.sum()
