"""The config rule for checkpoints: code may compare a checkpoint's config, but never use it.

A checkpoint is a value with such a name, or loaded from one. Allowed are statements that compare,
print or write, and assignments to a name that is not a config's. Missed: later uses of such a name,
values passed between functions, keys computed at run time.
"""

import ast
import re
from collections.abc import Iterator

from .conf import Finding
from .values import Module, last_name, named

CONFIG = re.compile(
    r"(\w+_)?(config|cfg|conf|hparams|hyper_?parameters|args|kwargs|options|settings)"
)
STORED = re.compile(r"(^|_)(ckpt|checkpoint|manifest|snapshot|saved|restored|state)(_|$)", re.I)
READS = re.compile(r"load|read|open|restore")
LOADS = re.compile(
    r"\b(torch|pickle|joblib)\.loads?\(|load_from_checkpoint\(|read_about\("
    r"|ckpt|checkpoint|manifest|snapshot"
)
OF_A_RUN = re.compile(r"(OmegaConf|yaml)\.\w*load\(.*(\bruns?(_dir)?\b|\bold|\.hydra|checkpoint)")
HARMLESS = re.compile(
    r"diff|compare|change|reorder|same|equal|unlike|incompatib|match|verify|assert|check_|print|debug|info"
    r"|warn|error|exception|^log|dumps?$|write|repr|pformat|digest|hash"
)
PARTS = (ast.expr, ast.withitem, ast.arguments)
FROM_YAML = "compose the config from conf/ and the command line; compare the checkpoint's with it"


def checkpoint_findings(module: Module) -> Iterator[Finding]:
    """Uses of a checkpoint's config as a config."""
    loaded: set[str] = set()
    statements = [node for node in module.nodes if isinstance(node, ast.stmt)]
    for statement in sorted(statements, key=lambda it: it.lineno):
        # its own expressions, without those of nested statements
        parts = [it for it in ast.iter_child_nodes(statement) if isinstance(it, PARTS)]
        header = [node for part in parts for node in ast.walk(part)]
        given = list(named(statement))
        for part in parts:
            if isinstance(part, ast.withitem) and part.optional_vars:
                given.append((last_name(part.optional_vars), part.context_expr))
        aside = [value for name, value in given if not CONFIG.fullmatch(name)]
        for node in header:
            reading = _describe_read(node, loaded)
            is_aside = node in aside and not isinstance(node, ast.Call)
            if reading and not is_aside and not _is_harmless(statement, header):
                yield module.finding(node, "config from a checkpoint", reading, FROM_YAML)
        loaded |= {name for name, value in given if name and _is_load(value, loaded)}


def _is_load(node: ast.expr, loaded: set[str]) -> bool:
    if not isinstance(node, ast.Call) or not READS.search(last_name(node.func)):
        return False
    known = any(isinstance(it, ast.Name) and it.id in loaded for it in ast.walk(node))
    return known or LOADS.search(ast.unparse(node)) is not None


def _is_stored(node: ast.expr, loaded: set[str]) -> bool:
    while isinstance(node, ast.Subscript):
        node = node.value
    name = last_name(node)
    return name in loaded or STORED.search(name) is not None or _is_load(node, loaded)


def _is_harmless(statement: ast.stmt, header: list[ast.AST]) -> bool:
    parts = list(ast.walk(statement)) if isinstance(statement, ast.For) else header
    if any(isinstance(part, ast.Compare | ast.JoinedStr) for part in parts):
        return True
    return any(isinstance(it, ast.Call) and HARMLESS.search(last_name(it.func)) for it in header)


def _describe_read(node: ast.AST, loaded: set[str]) -> str:
    """A read of a config from a checkpoint, for the message; empty for any other node."""
    match node:
        case (
            ast.Subscript(value=base, slice=ast.Constant(value=str() as key), ctx=ast.Load())
            | ast.Attribute(value=base, attr=key, ctx=ast.Load())
            | ast.Call(ast.Attribute(base, "get" | "pop"), [ast.Constant(value=str() as key), *_])
        ) if CONFIG.fullmatch(key) and _is_stored(base, loaded):
            return f"{ast.unparse(node)} is used as a config"
        case ast.Call(ast.Attribute(attr="load_from_checkpoint")):
            return f"{ast.unparse(node)} takes its arguments from the checkpoint"
        case ast.Call(func=func) if last_name(func).endswith("load"):
            if OF_A_RUN.match(ast.unparse(node)):
                return f"{ast.unparse(node)} reads a run's config"
    return ""
