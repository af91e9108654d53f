"""The network: log spectrogram, subsampling, an encoder, CTC. All sizes arrive as arguments."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config
from .config.model import Model
from .engine.project import Batch


def is_frame(frames: Tensor, x: Tensor) -> Tensor:
    """Which frames of x [items, frames, …] are not padding: [items, frames]."""
    return torch.arange(x.shape[1], device=x.device) < frames[:, None]


class Spectrogram(nn.Module):
    """Audio [items, samples] to decibels [items, frames, bins], scaled so that each peak is 1."""

    def __init__(self, window_samples: int, hop_samples: int, dynamic_range_db: float) -> None:
        super().__init__()
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.dynamic_range_db = dynamic_range_db
        # on the meta device, where checks build the model, torch would import its compiler for it
        window = torch.hann_window(window_samples, device="cpu")
        self.register_buffer("window", window, persistent=False)

    def forward(self, audio: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Also return the number of frames of each item, [items]."""
        spectrum = torch.stft(
            audio,
            self.window_samples,
            self.hop_samples,
            window=cast(Tensor, self.window),
            pad_mode="constant",
            return_complex=True,
        )
        decibels = 20 * torch.log10(spectrum.abs().transpose(1, 2) + 1e-10)
        # relative to the item's own peak, so that the level of a recording does not matter
        peak = decibels.amax(dim=(1, 2), keepdim=True)
        scaled = 1 + (decibels - peak) / self.dynamic_range_db
        return scaled.clamp(min=0), samples // self.hop_samples + 1


class Subsampling(nn.Module):
    """Strided convolutions: spectrogram frames [items, frames, bins] to encoder frames."""

    def __init__(self, bins: int, dim: int, subsampling: int) -> None:
        super().__init__()
        self.strides = [2] * (subsampling.bit_length() - 1) or [1]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(dim if i else bins, dim, kernel_size=3, stride=stride, padding=1)
            for i, stride in enumerate(self.strides)
        )

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Also return the number of encoder frames of each item, [items]."""
        for convolution, stride in zip(self.convolutions, self.strides, strict=True):
            x = (x * is_frame(frames, x)[:, :, None]).transpose(1, 2)
            x = F.gelu(convolution(x)).transpose(1, 2)
            frames = (frames - 1) // stride + 1
        return x, frames


class Attention(nn.Module):
    """Self-attention over the frames that are not padding."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x [items, frames, dim], valid [items, frames]."""
        items, frames, dim = x.shape
        qkv = self.qkv(x).view(items, frames, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mask = valid[:, None, None, :]
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return cast(Tensor, self.out(x.transpose(1, 2).reshape(items, frames, dim)))


class Convolution(nn.Module):
    """A gated convolution along time, which also gives attention its positional information."""

    def __init__(self, dim: int, kernel_frames: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_frames, padding=kernel_frames // 2, groups=dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x [items, frames, dim], valid [items, frames]."""
        x = F.glu(self.gate(x)) * valid[:, :, None]
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return cast(Tensor, self.out(F.gelu(x)))


class Layer(nn.Module):
    """Convolution, attention and feed-forward, each behind a norm and around a shortcut."""

    def __init__(
        self, dim: int, heads: int, feedforward_ratio: int, kernel_frames: int, dropout: float
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.convolution = Convolution(dim, kernel_frames)
        self.attention = Attention(dim, heads, dropout)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, feedforward_ratio * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward_ratio * dim, dim),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x [items, frames, dim], valid [items, frames]."""
        x = x + self.dropout(self.convolution(self.norms[0](x), valid))
        x = x + self.dropout(self.attention(self.norms[1](x), valid))
        x = x + self.dropout(self.feedforward(self.norms[2](x)))
        return x


class Encoder(nn.Module):
    """Layers of convolution and attention, and a norm at the end."""

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        feedforward_ratio: int,
        kernel_frames: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(dim, heads, feedforward_ratio, kernel_frames, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x [items, frames, dim], valid [items, frames]."""
        for layer in self.layers:
            x = layer(x, valid)
        return cast(Tensor, self.norm(x))


class Recognizer(nn.Module):
    """Audio to log probabilities of the vocabulary's symbols and, as class 0, the blank of CTC.

    The encoder maps frames [items, frames, dim], and which are valid [items, frames], to new ones.
    """

    def __init__(
        self,
        encoder: nn.Module,
        symbols: int,
        window_samples: int,
        hop_samples: int,
        dynamic_range_db: float,
        subsampling: int,
        dim: int,
    ) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(window_samples, hop_samples, dynamic_range_db)
        self.subsampling = Subsampling(window_samples // 2 + 1, dim, subsampling)
        self.encoder = encoder
        self.classify = nn.Linear(dim, symbols + 1)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile all but the convolutions and the spectrogram, which has complex numbers.

        torch would compile a convolution again for each length of audio.
        """
        for module in self.modules():
            if isinstance(module, Spectrogram | Subsampling | Convolution):
                eager = torch.compiler.disable(module.forward)  # type: ignore[no-untyped-call]
                module.forward = eager  # type: ignore[method-assign]
        super().compile(*args, **kwargs)

    def forward(self, audio: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Audio [items, samples] to log probabilities [items, frames, classes], and the frames."""
        with torch.autocast(audio.device.type, enabled=False):
            x, frames = self.spectrogram(audio, samples)
        x, frames = self.subsampling(x, frames)
        x = self.encoder(x, is_frame(frames, x))
        return self.classify(x).float().log_softmax(dim=-1), frames


def build_model(cfg: Config) -> nn.Module:
    """The network that this config describes, with new weights."""
    encoder = cfg.model.encoder
    return Recognizer(
        encoder=build_encoder(cfg.model),
        symbols=len(cfg.data.vocabulary),
        window_samples=encoder.window_samples,
        hop_samples=encoder.hop_samples,
        dynamic_range_db=encoder.dynamic_range_db,
        subsampling=encoder.subsampling,
        dim=encoder.dim,
    )


def build_encoder(model: Model) -> nn.Module:
    """The encoder of this kind of model."""
    encoder = model.encoder
    return Encoder(
        dim=encoder.dim,
        layers=encoder.layers,
        heads=encoder.heads,
        feedforward_ratio=encoder.feedforward_ratio,
        kernel_frames=encoder.kernel_frames,
        dropout=encoder.dropout,
    )


def ctc_loss(log_probs: Tensor, frames: Tensor, batch: Batch) -> Tensor:
    """CTC loss per symbol of each item, [items] (Graves et al. 2006)."""
    device = log_probs.device
    if torch.are_deterministic_algorithms_enabled():
        device = torch.device("cpu")  # on a GPU its gradient is not deterministic
    loss = F.ctc_loss(
        log_probs.transpose(0, 1).to(device),
        batch["targets"].to(device),
        frames.to(device),
        batch["symbols"].to(device),
        reduction="none",
        zero_infinity=True,  # the loss of a text too long for its audio
    )
    return loss.to(log_probs.device) / batch["symbols"]


def compute_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | float]:
    """The sum of the batch's training losses, and its weight: the loop divides by all weights.

    Here each item weighs 1. A mean over symbols: own-code.md, "A loss over tokens".
    """
    log_probs, frames = model(batch["audio"], batch["samples"])
    return ctc_loss(log_probs, frames, batch).sum(), len(frames)


def decode(log_probs: Tensor, frames: Tensor, vocabulary: str) -> list[list[tuple[str, int]]]:
    """The best class of each frame, repeats and blanks dropped: (symbol, frame) pairs per item."""
    best = log_probs.argmax(dim=-1).cpu()
    decoded = []
    for classes, count in zip(best, frames.tolist(), strict=True):
        path = classes[:count].tolist()
        starts = [i for i, c in enumerate(path) if c and (i == 0 or c != path[i - 1])]
        decoded.append([(vocabulary[path[i] - 1], i) for i in starts])
    return decoded
