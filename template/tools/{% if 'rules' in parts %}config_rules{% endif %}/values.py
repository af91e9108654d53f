"""The config rule for values: code repeats no value of conf/.

Reports a literal whose name and value match a key of conf/; a default argument only if some call
relies on it, or if nothing calls the function. Missed: values without a name, such as positional
arguments; names that are not spelt like the key's; arithmetic (24 * 1000); `:=`; true and false;
calls under another name. Tests and engine/ are not searched.
"""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from .conf import Conf, Finding

WRAPPERS = ("field", "Field", "int", "float", "str", "list", "tuple", "tensor", "array", "Path")
BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length")  # of pydantic's Field
ACCESSORS = ("get", "getattr", "getenv", "pop", "setattr", "setdefault")

Named = tuple[str, ast.expr, str]  # a name, its value, and the name as messages show it


class Call(NamedTuple):
    """A call, or a functools.partial."""

    place: str
    positional: list[ast.expr]
    keywords: list[ast.keyword]

    def gives(self, parameter: str, parameters: list[str]) -> bool:
        """Whether it passes the parameter; * and ** may pass any."""
        names = {keyword.arg for keyword in self.keywords}
        has_star = None in names or any(isinstance(it, ast.Starred) for it in self.positional)
        return has_star or parameter in {*names, *parameters[: len(self.positional)]}


Calls = dict[str, list[Call]]


class Module:
    """One Python file."""

    def __init__(self, root: Path, path: Path) -> None:
        self.file = path.relative_to(root).as_posix()
        parts = path.relative_to(root).parts
        self.is_test = "tests" in parts or path.name.startswith(("test_", "conftest"))
        self.is_engine = parts[1:2] == ("engine",)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            tree = ast.Module([], [])  # ruff reports it, or it is a broken link
        self.nodes = list(ast.walk(tree))

    def finding(self, node: ast.AST, rule: str, wrong: str, way_out: str) -> Finding:
        """A finding at this node's line."""
        return Finding(f"{self.file}:{getattr(node, 'lineno', 1)}", rule, wrong, way_out)


def value_findings(conf: Conf, modules: list[Module]) -> Iterator[Finding]:
    """Literals with the name and the value of a key."""
    calls: Calls = {}
    for module in modules:
        for node in [] if module.is_test else module.nodes:
            if isinstance(node, ast.Call):
                name, given = last_name(node.func), node.args
                if name == "partial" and given:
                    name, given = last_name(given[0]), given[1:]
                call = Call(f"{module.file}:{node.lineno}", given, node.keywords)
                calls.setdefault(name, []).append(call)
    for module in modules:
        if module.is_test or module.is_engine:
            continue
        literals = [(name, value, name) for node in module.nodes for name, value in named(node)]
        for name, value, shown in (*_defaults(module, calls), *literals):
            for literal in _parts(value):
                if it := conf.repeated(name, _value(literal)):
                    dotted = ".".join(it.key)
                    wrong = f"{shown} = {ast.unparse(literal)} repeats {dotted} ({it.place})"
                    way_out = f"read cfg.{dotted} where it is at hand, and pass it as an argument"
                    yield module.finding(literal, "repeated value", wrong, way_out)


def last_name(node: ast.expr) -> str:
    """The last part of a name: `self.rate`, `rate` and `x["rate"]` are all called rate."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str() as name)):
            return name
    return ""


def _defaults(module: Module, calls: Calls) -> Iterator[Named]:
    """Default arguments that some call relies on, or of functions that nothing calls."""
    classes = [node for node in module.nodes if isinstance(node, ast.ClassDef)]
    owner = {id(method): node.name for node in classes for method in node.body}
    for node in module.nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = node.args
        parameters = [argument.arg for argument in (*given.posonlyargs, *given.args)]
        defaults = [*zip(reversed(parameters), reversed(given.defaults), strict=False)]
        keywords = zip(given.kwonlyargs, given.kw_defaults, strict=True)
        defaults += [(argument.arg, value) for argument, value in keywords if value]
        parameters = [name for name in parameters if name not in ("self", "cls")]
        called = calls.get(owner[id(node)] if node.name == "__init__" else node.name, [])
        for name, default in defaults:
            kept = [call.place for call in called if not call.gives(name, parameters)]
            if kept:
                yield name, default, f"{name} (its default, which holds in {kept[0]})"
            elif not called:
                yield name, default, f"{name} (its default, which no call replaces)"


def named(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The pairs of a name and its value in this node, such as an assignment's."""
    match node:
        case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
            yield from zip(map(last_name, targets), values, strict=False)
        case ast.Assign(targets=targets, value=value):
            yield from ((last_name(target), value) for target in targets)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield last_name(target), value
        case ast.keyword(arg=str() as name, value=value) if name not in BOUNDS:
            yield name, value
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, value
        case ast.Compare(left=left, comparators=others):
            # numbers only: comparing texts is how code dispatches on a choice
            for one, other in pairwise([left, *others]):
                if isinstance(_value(other), int | float):
                    yield last_name(one), other
        case ast.Call(args=[*_, ast.Constant(value=str() as name), value]):
            if last_name(node.func) in ACCESSORS:
                yield name, value


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """The values that an expression may have, as in `x or 1`, `int(1)` or `field(default=1)`."""
    match node:
        case ast.BoolOp(values=values):
            yield from (part for value in values for part in _parts(value))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_parts(body), *_parts(orelse))
        case ast.Call(args=args, keywords=keywords) if last_name(node.func) in WRAPPERS:
            defaults = [keyword.value for keyword in keywords if keyword.arg == "default"]
            yield from (part for value in (*args[:1], *defaults) for part in _parts(value))
        case _:
            yield node


def _value(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None
