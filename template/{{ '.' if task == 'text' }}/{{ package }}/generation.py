"""mode=generate: continue a prompt."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .config import Config
from .config.sampling import Generation
from .engine.inference import Row, recognize_files
from .model import Cache
from .project import PROJECT
from .texts import find_inputs
from .tokenizer import document_token, open_encoder


def generate(cfg: Config, output_dir: Path) -> None:
    """Continue sampling.prompt or each file of cfg.input; print, write generated.txt."""
    if not cfg.input:
        (output_dir / "prompt.txt").write_text(cfg.sampling.prompt, "utf-8")
        cfg = cfg.model_copy(update={"input": [str(output_dir / "prompt.txt")]})
    continue_file = partial(continue_prompt, cfg=cfg)
    rows = recognize_files(PROJECT, cfg, output_dir, find_inputs, continue_file, "generated.jsonl")
    texts = [row["prompt"] + row["text"] + "\n" for row in rows]
    (output_dir / "generated.txt").write_text("\n".join(texts), "utf-8")


def continue_prompt(model: nn.Module, path: Path, source: Path, cfg: Config) -> tuple[Row, str]:
    """What follows the text of one file."""
    encoder, begin = open_encoder(cfg.data.tokenizer), document_token(cfg.data.tokenizer)
    prompt = encoder.encode([path.read_bytes()])[0].tolist()
    ids = continue_tokens(model, [begin, *prompt], cfg.sampling, cfg.model.context)
    text = encoder.decode([*prompt, *ids])
    shown = encoder.decode(prompt)
    return {"path": str(path), "prompt": shown, "text": text.removeprefix(shown)}, f"\n{text}"


@torch.inference_mode()
def continue_tokens(
    model: nn.Module, prompt: list[int], sampling: Generation, context: int
) -> list[int]:
    """The tokens after those of the prompt, until the document ends; prompt[0] begins it.

    Each step computes the newest token alone, over the cached keys and values of those before it.
    Where the context is full, it continues with the last half of it.
    """
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(sampling.seed)
    ids, new, cache = list(prompt), list(prompt), Cache()
    used = 0
    for _ in range(sampling.tokens):
        if used + len(new) > context:
            new, cache, used = ids[-(context // 2) :], Cache(), 0
        logits = model(torch.tensor([new], device=device), cache=cache)[0, -1, : prompt[0] + 1]
        used += len(new)
        new = [draw(logits.float().cpu(), sampling, random)]
        if new[0] == prompt[0]:
            break
        ids += new
    return ids[len(prompt) :]


def draw(logits: Tensor, sampling: Generation, random: torch.Generator) -> int:
    """A token, by its logit [vocabulary]."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    best, places = logits.topk(min(sampling.top_k or len(logits), len(logits)))
    chances = (best / sampling.temperature).softmax(dim=0)
    return int(places[torch.multinomial(chances, 1, generator=random)])
