"""A BERT encoder (Devlin et al. 2019), and a head for topics."""

import torch
import torch.nn.functional as F
from torch import nn


class Layer(nn.Module):
    def __init__(self, dim, heads, feedforward):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out, self.attention_norm = nn.Linear(dim, dim), nn.LayerNorm(dim, eps=1e-12)
        self.up, self.down = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)

    def forward(self, x, mask):
        q, k, v = (
            it(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for it in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(q, k, v, mask[:, None, None])
        x = self.attention_norm(x + self.out(attended.transpose(1, 2).flatten(2)))
        return self.norm(x + self.down(F.gelu(self.up(x))))


class Classifier(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        model = cfg.model
        self.words = nn.Embedding(model.vocabulary, model.dim)
        self.positions = nn.Embedding(model.positions, model.dim)
        self.types = nn.Embedding(2, model.dim)
        self.embedding_norm = nn.LayerNorm(model.dim, eps=1e-12)
        sizes = model.dim, model.heads, model.feedforward
        self.layers = nn.ModuleList(Layer(*sizes) for _ in range(model.layers))
        self.head = nn.Linear(model.dim, len(cfg.data.topics))

    def embed(self, tokens):
        """The mean vector of each sentence: tokens [items, length] to [items, dim]."""
        mask = tokens != 0
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.words(tokens) + self.positions(places) + self.types(torch.zeros_like(tokens))
        x = self.embedding_norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    def forward(self, tokens):
        return self.head(self.embed(tokens))


def build_model(cfg):
    return Classifier(cfg)


def compute_loss(model, batch):
    losses = F.cross_entropy(model(batch["tokens"]), batch["topic"], reduction="none")
    return losses.sum(), len(losses)
