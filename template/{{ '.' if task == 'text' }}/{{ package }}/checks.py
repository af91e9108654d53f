"""Checks before a run starts, without torch. Problems name their file or line.

The last one of a list ends with the command that fixes them, where there is one.
"""

import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from .config import Config
from .config.data import Bytes, Data, File, Hub, Stdlib, TextFiles, Tokenizer, Trained
from .engine.config import Split
from .engine.errors import UserError
from .hub import find_problems
from .own_files import command, fold_problems
from .texts import find_files, find_inputs, is_jsonl, parse_line, read_file, read_lines
from .tokenizer import count_tokens, open_encoder, train_tokenizer
from .tokens import Count, not_utf8, read_pieces

MOST_DELETED = 1000  # lines in one command: longer ones do not fit


def check_data(cfg: Config, splits: list[Split]) -> list[str]:
    """Problems of the tokenizer and of these splits."""
    tokenizer = tokenizer_problems(cfg.data.tokenizer) if splits else []
    return [*tokenizer, *text_problems(cfg.data, splits)]


def text_problems(data: Data, splits: list[Split]) -> list[str]:
    """Problems of what these splits are read from."""
    if isinstance(data, Hub):
        return find_problems(data, splits)
    if isinstance(data, TextFiles):
        keys = dict.fromkeys(map(data.key, splits))
        return [it for key in keys for it in path_problems(key, data)]
    if splits and data.folds:
        count = len(find_files(data, "train")[1])
        return fold_problems(data, data.test, {"the standard library": count})
    return []


def tokenizer_problems(tokenizer: Tokenizer) -> list[str]:
    """Problems of a tokenizer that is a file."""
    if isinstance(tokenizer, Bytes):
        return []
    problems = []
    if not find_spec("tokenizers"):
        problems = [no_library(tokenizer)]
    try:
        there = count_tokens(tokenizer.path)
        if not problems:
            open_encoder(tokenizer)
    except UserError as error:
        if not isinstance(tokenizer, Trained):
            return [*problems, *error.problems]
        describe = command("mode=describe")
        return [*problems, *(f"{it}\nto train it:\n{describe}" for it in error.problems)]
    if isinstance(tokenizer, Trained) and there != tokenizer.vocabulary:
        given = f"data.tokenizer.vocabulary = {tokenizer.vocabulary}"
        problems.append(f"{given}: expected {there}, as {tokenizer.path} has")
    return problems


def no_library(tokenizer: Trained | File) -> str:
    """The message where the library is missing."""
    missing = "the package tokenizers is missing"
    return f"data/tokenizer={tokenizer.kind}: {missing}\npip install -e '.[tokenizers]'"


def path_problems(key: Split, data: TextFiles) -> list[str]:
    """Problems of one path: its files or lines, and the text in a sample of them."""
    path, fewest = data.path(key), data.count_splits(key)
    _, files = find_files(data, key)
    if not files:
        expected = f"expected files that end in {', '.join(data.suffixes)} (data.suffixes)"
        what = f"none in this folder; {expected}" if path.is_dir() else "no such file or folder"
        other = command(f"data.{key}={'FOLDER' if key == 'train' else 0.05}")
        return [f"data.{key} = {path}: {what}\n{other}"]
    if is_jsonl(files):
        problems = line_problems(key, data)
        if problems or not data.folds or key != "train":
            return problems
        return fold_problems(data, data.test, {str(path): sum(1 for _ in read_lines(files[0]))})
    if not any(next(read_file(file), b"").strip() for file in files):
        return [f"data.{key} = {path}: no text in its {len(files)} files; expected text"]
    if len(files) < fewest:
        parts = f"{path.stem}-parts"
        lines = min(1000, 1 + Path(files[0]).stat().st_size // 2000)
        begins = f"NR % {lines} == {1 % lines}"
        program = begins + ' {close(f); f = sprintf("%s/%05d.txt", d, n++)} {print > f}'
        cut = shlex.join(["awk", "-v", f"d={parts}", program, files[0]])
        way_out = f"to cut a file into documents of {lines} lines:\n{shlex.join(['mkdir', parts])}"
        way_out += f" && {cut} && {command(f'data.{key}={parts}')}"
        return [f"data.{key} = {path}: {few_documents(len(files), fewest)}; {way_out}"]
    if key == "train" and (too_many := fold_problems(data, data.test, {str(path): len(files)})):
        return too_many
    step = -(-len(files) // (data.check_documents or len(files)))
    bad = [] if isinstance(data.tokenizer, Bytes) else [*filter(is_not_utf8, files[::step])]
    problems = [not_utf8(file) for file in bad[:5]]
    if bad:
        problems[-1] += f"\nto leave it out:\n{shlex.join(['mv', bad[0], f'{bad[0]}.bad'])}"
    return problems


def is_not_utf8(file: str) -> bool:
    """Whether a file has bytes that are not UTF-8."""
    try:
        Path(file).read_text("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def few_documents(count: int, fewest: int) -> str:
    """The message where splits would be empty."""
    return f"documents: {count}; expected at least {fewest}, one for each split"


def line_problems(key: Split, data: TextFiles) -> list[str]:
    """Problems of the first lines of JSON Lines."""
    path, fewest, most = data.path(key), data.count_splits(key), data.check_documents
    lines = islice(read_lines(str(path)), max(fewest, most) if most else None)
    found = [parse_line(line, data.field) for line in lines]
    problems = {number: problem for number, (_, problem) in enumerate(found, 1) if problem}
    are_all = most is None or len(found) < most
    if are_all and not problems and not any(text.strip() for text, _ in found):
        return [f'data.{key} = {path}: no text; expected lines such as {{"{data.field}": "…"}}']
    if len(found) < fewest:
        return [f"data.{key} = {path}: {few_documents(len(found), fewest)}"]
    shown = [f"{path}:{number}: {problem}" for number, problem in problems.items()][:10]
    if shown:
        script = "".join(f"{number}d;" for number in [*problems][:MOST_DELETED])
        delete = shlex.join(["sed", "-i.bak", script, str(path)])
        shown[-1] += f"\nto delete these lines, and keep {path.name}.bak: {delete}"
    return shown


def prepare_tokenizer(cfg: Config) -> dict[str, object]:
    """The tokenizer's keys for mode=describe, which trains it; none where it is bytes."""
    data = cfg.data
    if isinstance(data, Stdlib):
        own = command("mode=describe", "data=text_files", "data.train=FOLDER")
        raise UserError(f"data = {data.kind}: expected your own texts\n{own}")
    if problems := text_problems(data, ["train"]):
        raise UserError(*problems)
    found = {} if isinstance(data.tokenizer, Bytes) else data.tokenizer.model_dump()
    if isinstance(data.tokenizer, Trained):
        if not find_spec("tokenizers"):
            raise UserError(no_library(data.tokenizer))
        if Path(data.tokenizer.path).exists():
            other = command("data.tokenizer.path=FILE")
            raise UserError(
                f"data.tokenizer.path = {data.tokenizer.path}: exists; expected a new file\n{other}"
            )
        texts = (piece.text.decode() for piece in read_pieces(data, "train", Count()))
        found["vocabulary"] = train_tokenizer(texts, data.tokenizer)
    return found


def check_input(cfg: Config) -> Iterator[str]:
    """Problems of the files of `input`, and of the prompt that mode=generate continues."""
    prompts = {"sampling.prompt": cfg.sampling.prompt.encode()} if not cfg.input else {}
    for path in map(Path, cfg.input or []):
        files = find_inputs(path) if path.is_dir() else [path]
        if not path.exists():
            yield f"input = {path}: no such file or folder"
        elif not any(file.read_bytes().strip() for file in files):
            yield f"input = {path}: no text; expected a file of text or a folder of them"
        elif cfg.mode == "generate":
            prompts |= {f"input = {file}": file.read_bytes() for file in files}
    if cfg.mode != "generate" or tokenizer_problems(cfg.data.tokenizer):
        return
    for given, text in prompts.items():
        try:
            tokens = len(open_encoder(cfg.data.tokenizer).encode([text])[0])
        except UnicodeDecodeError:
            yield not_utf8(given)
            continue
        if tokens >= (context := cfg.model.context):
            expected = f"expected fewer than model.context ({context})"
            yield f"{given}: the prompt has {tokens} tokens; {expected}"


def data_notes(cfg: Config, splits: list[Split]) -> Iterator[str]:
    """Notes on held-out and empty documents, a line each."""
    data = cfg.data
    if not isinstance(data, TextFiles):
        return
    for split in splits:
        if data.key(split) != split:
            yield f"data.{split}: a part of the documents of {data.train}, held out"
    for split in dict.fromkeys(map(data.key, splits)):
        _, files = find_files(data, split)
        if empty := sum(Path(file).stat().st_size == 0 for file in files):
            yield f"data.{split}: {empty} of {len(files)} files are empty and are left out"
