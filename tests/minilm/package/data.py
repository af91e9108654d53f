"""Sentences about a word of a topic; words of the other splits are unknown to training."""

from pathlib import Path

import torch


class Sentences(list):
    def length(self, index):
        return len(self[index][0])

    def name(self, index):
        return f"sentence {index}"

    def files(self):
        return ()


def open_items(cfg, split):
    """Pairs of token ids and the topic's number."""
    data = cfg.data
    words = Path(data.vocabulary).read_text("utf-8").splitlines()
    ids = {word: i for i, word in enumerate(words)}
    return Sentences(
        ([ids[it] for it in ("[CLS]", *sentence.format(word).split(), "[SEP]")], topic)
        for topic, name in enumerate(data.topics)
        for word in getattr(data.topics[name], split)
        for sentence in data.sentences
    )


def collate(items, cfg):
    tokens = [torch.tensor(ids) for ids, _ in items]
    return {
        "tokens": torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True),
        "topic": torch.tensor([topic for _, topic in items]),
    }
