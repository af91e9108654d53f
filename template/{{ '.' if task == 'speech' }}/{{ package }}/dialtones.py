"""Telephone keys as audio: DTMF, one tone of the key's row and one of its column (ITU-T Q.23)."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from .config.data import Dialtones
from .engine.config import Split

Values = npt.NDArray[np.float64]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class DialtoneItems:
    """The items of one split: (audio, text) pairs, each a pure function of (seed, split, i)."""

    def __init__(self, data: Dialtones, split: Split, sample_rate: int) -> None:
        self.data = data
        self.split = split
        self.sample_rate = sample_rate
        self.low_hz = np.repeat(data.row_hz, len(data.column_hz))
        self.high_hz = np.tile(data.column_hz, len(data.row_hz))

    def __len__(self) -> int:
        return self.data.count(self.split)

    def name(self, index: int) -> str:
        """The item's name in messages."""
        return "{} {}".format(*self.data.place(self.split, index))

    def files(self) -> list[Path]:
        """None: the items are generated."""
        return []

    def length(self, index: int) -> float:
        """The number of keys, which is cheaper to compute than their duration."""
        return self._count(self._rng(index))

    def _rng(self, index: int) -> np.random.Generator:
        split, number = self.data.place(self.split, index)
        return np.random.default_rng([self.data.seed, SPLITS.index(split), number])

    def _count(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.data.symbols[0], self.data.symbols[1], endpoint=True))

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], str]:
        """Audio, float32 of shape [samples], and its keys."""
        data = self.data
        rng = self._rng(index)

        def draw(bounds: list[float], size: int) -> Values:
            return rng.uniform(bounds[0], bounds[1], size)

        count = self._count(rng)
        keys = rng.integers(len(data.vocabulary), size=count)

        # silence, key, pause, key, …, key, silence; all in samples
        lengths = np.empty(2 * count + 1)
        lengths[1::2] = draw(data.tone_seconds, count)
        lengths[0::2] = draw(data.pause_seconds, count + 1)
        lengths[[0, -1]] = draw(data.edge_seconds, 2)
        samples = np.round(lengths * self.sample_rate).astype(int)

        # one value per key, spread over its samples; zero in the silence between
        offsets = 1 + draw(data.frequency_offset, 2 * count)
        low = spread(self.low_hz[keys] * offsets[:count], samples)
        high = spread(self.high_hz[keys] * offsets[count:], samples)
        level = 10 ** (draw(data.level_db, count) / 20)
        twist = 10 ** (draw(data.twist_db, count) / 20)
        low_level, high_level = level / (1 + twist), level * twist / (1 + twist)

        radians = 2 * np.pi * np.arange(samples.sum()) / self.sample_rate
        audio = spread(low_level, samples) * np.sin(low * radians)
        audio += spread(high_level, samples) * np.sin(high * radians)
        noise = 10 ** (draw(data.noise_db, 1) / 20)
        audio += noise * rng.standard_normal(len(audio))
        return audio.astype(np.float32), "".join(data.vocabulary[key] for key in keys)


def spread(values: Values, samples: npt.NDArray[np.int_]) -> Values:
    """Each value repeated over its odd segment, zeros over the even ones, [samples]."""
    with_silence = np.zeros(len(samples))
    with_silence[1::2] = values
    return np.repeat(with_silence, samples)
