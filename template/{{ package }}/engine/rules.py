# Kept by the template; an update merges what you change here.
"""The config rules, checked: python -m PACKAGE.engine.rules, from the project's root. No torch.

A line is excused by a comment that says why: `# config-ok: the standard fixes this rate`.
"""

import ast
import math
import operator
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from .rules_config import Conf, Finding, alias_advice, alias_findings, option_findings
from .rules_scripts import script_findings

EXCUSE = re.compile(r"#\s*config-ok\b:?[ \t]*(\S*)")
PACKAGE = Path(__file__).parents[1].name


def findings(root: Path) -> list[Finding]:
    """All that breaks a rule in the project at `root`, advice among it."""
    conf = Conf(root)
    modules = [Module(root, file) for file in _python_files(root)]
    found = [*_repeated_values(conf, modules), *alias_findings(conf), *alias_advice(conf)]
    for module in modules:
        found += _command_lines(module)
        found += [] if module.is_test else _configs_from_checkpoints(module)
    for pattern in ("*.sbatch", "scripts/**/*.sbatch"):
        for script in sorted(root.glob(pattern)):
            found += script_findings(conf, script)
    found += option_findings(conf)
    return sorted(not_excused(root, found), key=lambda it: (it.file, it.line, it.rule))


def main() -> int:
    """Print what is wrong in the current folder; the exit status."""
    if not Path("conf").is_dir():
        print("there is no conf/ here: run this from the project's root")
        return 2
    found = findings(Path.cwd())
    for finding in found:
        print(finding)
    return int(any(finding.rule != "advice" for finding in found))


def _python_files(root: Path) -> list[Path]:
    """Those of the root, and of its folders that have some at their top; data is not searched."""
    files = list(root.glob("*.py"))
    for folder in root.iterdir():
        skipped = folder.name.startswith(".") or folder.name in ("build", "dist", "runs")
        if not skipped and any(folder.glob("*.py")):
            files += folder.rglob("*.py")
    return sorted(files)


def not_excused(root: Path, found: Iterable[Finding]) -> Iterator[Finding]:
    """Those whose line has no `# config-ok:` with a reason."""
    for finding in dict.fromkeys(found):
        lines = (root / finding.file).read_text("utf-8", errors="replace").splitlines()
        line = lines[finding.line - 1] if finding.line <= len(lines) else ""
        excuse = EXCUSE.search(line)
        if not excuse:
            yield finding
        elif not excuse[1]:
            wrong = f"{finding.wrong} (its # config-ok: gives no reason)"
            yield Finding(finding.file, finding.line, finding.rule, wrong, finding.way_out)


# Python, parsed


@dataclass
class Function:
    """The parameters of one function or class; of a class, its name stands for the call."""

    name: str
    parameters: list[str]
    defaults: dict[str, ast.expr]


@dataclass
class Call:
    """One call, by the last part of what it calls; partial(f, …) is a call of f."""

    name: str
    place: str
    positional: list[ast.expr]
    keywords: set[str | None]

    def gives(self, function: Function, parameter: str) -> bool:
        """Whether it passes the parameter; stars may pass anything."""
        if {parameter, None} & self.keywords:
            return True
        if any(isinstance(argument, ast.Starred) for argument in self.positional):
            return True
        return parameter in function.parameters[: len(self.positional)]


class Module:
    """One Python file."""

    def __init__(self, root: Path, path: Path) -> None:
        self.file = path.relative_to(root).as_posix()
        self.parts = path.relative_to(root).parts
        try:
            self.tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            self.tree = ast.Module([], [])  # ruff tells it
        self.nodes = list(ast.walk(self.tree))
        self.is_test = "tests" in self.parts or path.name.startswith(("test_", "conftest"))
        self.is_engine = self.parts[:2] == (PACKAGE, "engine")
        self.is_entry = self.parts == ("train.py",)

    def finding(self, node: ast.AST, rule: str, wrong: str, way_out: str) -> Finding:
        """A finding at this node's line."""
        return Finding(self.file, getattr(node, "lineno", 1), rule, wrong, way_out)


def _name(node: ast.expr | None) -> str:
    """The last part of a name: `self.rate`, `rate` and `x["rate"]` are all called rate."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str() as name)):
            return name
    return ""


# 1. a value of conf/ repeated in code


def _repeated_values(conf: Conf, modules: list[Module]) -> Iterator[Finding]:
    """Literals with the name and the value of a key; defaults only where no call replaces them.

    Missed: values with no name beside them, names that are not spelt like the key's, true and
    false, calls of a function under another name. Tests and engine/ are not searched.
    """
    functions = [f for m in modules for f in _functions(m.nodes)]
    calls = [call for m in modules if not m.is_test for call in _calls(m)]
    by_name: dict[str, list[Function]] = {}
    for function in functions:
        by_name.setdefault(function.name, []).append(function)
    for module in modules:
        if module.is_test or module.is_engine:
            continue
        told: set[tuple[int, int]] = set()
        for name, node, said in (*_defaults(module, calls), *_literals(module, by_name)):
            for literal in _parts(node):
                value = _evaluate(literal)
                position = (literal.lineno, literal.col_offset)
                if value is None or position in told or not (key := conf.repeated(name, value)):
                    continue
                told.add(position)
                dotted = ".".join(key.path)
                wrong = f"{said} = {ast.unparse(literal)} repeats {dotted} ({key.place})"
                way_out = f"read cfg.{dotted} where it is at hand, and pass it on as an argument"
                yield module.finding(literal, "repeated value", wrong, way_out)


def _functions(nodes: list[ast.AST]) -> Iterator[Function]:
    """Functions, methods without self, and classes by their __init__ or dataclass fields."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            named = [*node.args.posonlyargs, *node.args.args]
            keywords = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            defaults = dict(zip(reversed(named), reversed(node.args.defaults), strict=False))
            defaults |= {argument: default for argument, default in keywords if default}
            names = [a.arg for a in named if a.arg not in ("self", "cls")]
            yield Function(node.name, names, {a.arg: value for a, value in defaults.items()})
        elif isinstance(node, ast.ClassDef) and _is_dataclass(node):
            fields = {_name(f.target): f.value for f in node.body if isinstance(f, ast.AnnAssign)}
            defaults_of_fields = {name: value for name, value in fields.items() if value}
            yield Function(node.name, list(fields), defaults_of_fields)
        elif isinstance(node, ast.ClassDef):
            for function in _functions(node.body):  # type: ignore[arg-type]
                if function.name == "__init__":
                    yield Function(node.name, function.parameters, function.defaults)


def _is_dataclass(node: ast.ClassDef) -> bool:
    decorators = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    named = {_name(d) for d in decorators} & {"dataclass", "define", "frozen", "attrs"}
    return bool(named) or any(_name(base) == "NamedTuple" for base in node.bases)


def _calls(module: Module) -> Iterator[Call]:
    for node in module.nodes:
        if isinstance(node, ast.Call):
            name, positional = _name(node.func), node.args
            if name == "partial" and positional:
                name, positional = _name(positional[0]), positional[1:]
            place = f"{module.file}:{node.lineno}"
            yield Call(name, place, positional, {k.arg for k in node.keywords})


def _defaults(module: Module, calls: list[Call]) -> Iterator[tuple[str, ast.expr, str]]:
    """Default arguments, and those of dataclasses, that hold in some call, or that nobody calls."""
    for function in _functions(module.nodes):
        for name, default in function.defaults.items():
            if function.name == "__init__":
                continue  # its class says it
            called = [call for call in calls if call.name == function.name]
            kept = [call for call in called if not call.gives(function, name)]
            if kept:
                yield name, default, f"{name} (its default, which holds in {kept[0].place})"
            elif not called:
                yield name, default, f"{name} (its default, which no call replaces)"


def _literals(
    module: Module, functions: dict[str, list[Function]]
) -> Iterator[tuple[str, ast.expr, str]]:
    """Every expression that stands beside a name: (name, expression, how to call the name)."""
    dataclasses = [n for n in module.nodes if isinstance(n, ast.ClassDef) and _is_dataclass(n)]
    fields = {id(part) for node in dataclasses for part in node.body}  # these are defaults
    for node in module.nodes:
        if id(node) not in fields:
            yield from ((name, value, name) for name, value in _named(node, functions) if name)


def _named(node: ast.AST, functions: dict[str, list[Function]]) -> Iterator[tuple[str, ast.expr]]:
    for target, value in _assigned(node):
        yield _name(target), value
    match node:
        case ast.keyword(arg=str() as name, value=value):
            yield name, value
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, value
        case ast.Compare(left=left, comparators=others):
            for one, other in pairwise([left, *others]):
                # a number beside a name; comparing texts is how code dispatches on a choice
                for named, value in ((one, other), (other, one)):
                    if isinstance(_evaluate(value), int | float):
                        yield _name(named), value
        case ast.Call(args=[*_, ast.Constant(value=str() as name), value]) if (
            _name(node.func) in ACCESSORS
        ):
            yield name, value
        case ast.Call(func=called, args=positional):
            known = functions.get(_name(called), [])
            if len(known) == 1:
                yield from zip(known[0].parameters, positional, strict=False)


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What a statement gives to what: (target, value); `a, b = 1, 2` is two assignments."""
    pairs: list[tuple[ast.expr, ast.expr]] = []
    match node:
        case ast.Assign(targets=targets, value=value):
            pairs = [(target, value) for target in targets]
        case ast.AnnAssign(value=ast.expr() as value) | ast.NamedExpr(value=value):
            pairs = [(node.target, value)]
        case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
            pairs = [(target, value)]
    sequence = ast.Tuple | ast.List
    for target, value in pairs:
        if isinstance(target, sequence) and isinstance(value, sequence):
            yield from zip(target.elts, value.elts, strict=False)
        else:
            yield target, value


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """The values that an expression may have: of `x or 1`, of `int(1)`, of `field(default=1)`."""
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                yield from _parts(value)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _parts(body)
            yield from _parts(orelse)
        case ast.Lambda(body=body):
            yield from _parts(body)
        case ast.Call(args=args, keywords=keywords) if _name(node.func) in WRAPPERS:
            for value in (*args[:1], *(k.value for k in keywords if (k.arg or "") in DEFAULTS)):
                yield from _parts(value)
        case _:
            yield node


WRAPPERS = {"field", "Field", "int", "float", "str", "list", "tuple", "tensor", "array", "Path"}
DEFAULTS = ("default", "default_factory")
ACCESSORS = {"get", "getattr", "getenv", "pop", "setattr", "setdefault"}


def _evaluate(node: ast.expr) -> object:
    """The value of a literal, or of arithmetic with literals; else None."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        one, other = _evaluate(node.left), _evaluate(node.right)
        if isinstance(one, int | float) and isinstance(other, int | float):
            with suppress(ArithmeticError):
                return OPERATORS[type(node.op)](one, other)
        return None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None


OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: lambda a, b: a**b if abs(b) < 20 else math.inf,
}


# 3. another command line than Hydra's

PARSERS = ["argparse", "click", "typer", "fire", "optparse", "getopt", "docopt", "tyro"]
PARSERS += ["absl.app", "absl.flags"]
ONE_COMMAND_LINE = "Hydra is the only command line: put the value in conf/ and read it from cfg"


def _command_lines(module: Module) -> Iterator[Finding]:
    """Parsers of command lines, however imported, and sys.argv outside the entry point.

    engine/ may use sys.argv: it starts the entry point anew. Missed: names computed at run time.
    """
    system = {"sys"} | {
        alias.asname
        for node in module.nodes
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "sys" and alias.asname
    }
    for node in module.nodes:
        wrong = ""
        match node:
            case ast.Import(names=names):
                wrong = _parser(*(alias.name for alias in names))
            case ast.ImportFrom(module=str() as source, names=names, level=0):
                wrong = _parser(*(f"{source}.{alias.name}" for alias in names))
                if source == "sys" and any("argv" in alias.name for alias in names):
                    wrong = "sys.argv"
            case ast.Call(args=[ast.Constant(value=str() as name), *_]) if _name(node.func) in (
                "import_module",
                "__import__",
            ):
                wrong = _parser(name)
            case ast.Attribute(value=ast.Name(id=name), attr="argv" | "orig_argv"):
                wrong = "sys.argv" if name in system else ""
            case ast.Call(
                func=ast.Name(id="getattr"),
                args=[ast.Name(id=name), ast.Constant(value="argv" | "orig_argv"), *_],
            ):
                wrong = "sys.argv" if name in system else ""
        if wrong and not (wrong == "sys.argv" and (module.is_entry or module.is_engine)):
            wrong = f"{wrong}: a second command line"
            yield module.finding(node, "command line", wrong, ONE_COMMAND_LINE)


def _parser(*names: str) -> str:
    return next((p for p in PARSERS for n in names if f"{n}.".startswith(f"{p}.")), "")


# 5. a config from a checkpoint

CONFIG_KEY = re.compile(
    r"(\w+_)?(config|cfg|conf|hparams|hyper_?parameters|args|kwargs|options|settings)"
)
STORED = re.compile(r"(^|_)(ckpt|checkpoint|manifest|snapshot|saved|restored|state)(_|$)", re.I)
ON_DISK = re.compile(r"ckpt|checkpoint|manifest|snapshot|\.pth?$", re.I)
OF_A_RUN = re.compile(r"(^|_)runs?(_dir)?$|^old|\.hydra|(^|/)runs/|ckpt|checkpoint", re.I)
READS = re.compile(r"(^|_)(loads?|read|open|restore)(_|$)|^(load|read)")
COMPARES = re.compile(
    r"diff|compare|changed|same|equal|unlike|misfit|match|verify|assert|check_|print|debug|info"
    r"|warn|error|exception|^log|dumps?$|write|isinstance|^len$|repr|pformat|digest|hash"
)
PASSES_ON = re.compile(
    r"dict|list|set|tuple|sorted|vars|items|keys|values|enumerate|zip|deepcopy|copy|flatten|str"
    r"|to_container|model_dump|asdict|reversed|get|pop"
)
FROM_YAML = "compose the config from conf/ and the command line; compare the checkpoint's with it"


def _configs_from_checkpoints(module: Module) -> Iterator[Finding]:
    """What a checkpoint says of its config, used other than to compare or to print it.

    A checkpoint is what is called one, or what was loaded from something that is. Names count for
    the whole file. Missed: what a function hands to another, and keys computed at run time.
    """
    reading = Reading(module)
    for node in module.nodes:
        if isinstance(node, ast.expr) and (said := reading.says(node)) and reading.is_used(node):
            yield module.finding(node, "config from a checkpoint", said, FROM_YAML)


@dataclass
class Reading:
    """Which expressions of a module are a checkpoint's, and what becomes of them."""

    module: Module
    parents: dict[int, ast.AST] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)  # of what is assigned to one
    loaded: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for node in self.module.nodes:
            self.parents |= {id(child): node for child in ast.iter_child_nodes(node)}
        for _ in range(2):  # what is read from an opened file comes second
            for node in self.module.nodes:
                for target, value in _assigned(node):
                    if isinstance(target, ast.Name):
                        self.names[id(value)] = target.id
                    if isinstance(target, ast.Name) and self.is_load(value):
                        self.loaded.add(target.id)

    def is_load(self, node: ast.expr) -> bool:
        """`torch.load(…)`, or anything that reads what is called a checkpoint."""
        if not isinstance(node, ast.Call):
            return False
        called = ast.unparse(node.func)
        if called in ("torch.load", "pickle.load", "joblib.load", "pickle.loads"):
            return True
        if not READS.search(_name(node.func)):
            return False
        return bool(STORED.search(_name(node.func))) or self._mentions(node)

    def _mentions(self, node: ast.AST) -> bool:
        for part in ast.walk(node):
            match part:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    if name in self.loaded or STORED.search(name):
                        return True
                case ast.Constant(value=str() as text):
                    if ON_DISK.search(text):
                        return True
        return False

    def _is_stored(self, node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name):
                return name in self.loaded or bool(STORED.search(name))
            case ast.Attribute(attr=name):
                return bool(STORED.search(name))
            case ast.Call(func=ast.Attribute(value=value)):
                return self.is_load(node) or self._is_stored(value)
            case ast.Subscript(value=value):
                return self._is_stored(value)
        return self.is_load(node)

    def says(self, node: ast.expr) -> str:
        """What to call a reading of a config from a checkpoint; empty for anything else."""
        match node:
            case (
                ast.Subscript(value=base, slice=ast.Constant(value=str() as key), ctx=ast.Load())
                | ast.Attribute(value=base, attr=key, ctx=ast.Load())
                | ast.Call(
                    func=ast.Attribute(value=base, attr="get" | "pop"),
                    args=[ast.Constant(value=str() as key), *_],
                )
            ):
                if CONFIG_KEY.fullmatch(key) and self._is_stored(base):
                    return f"{ast.unparse(node)} is used as a config"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.endswith(".load_from_checkpoint"):
                return f"{called} takes its arguments from the checkpoint"
            if called in ("OmegaConf.load", "yaml.safe_load", "yaml.load", "yaml.full_load"):
                for part in (part for argument in node.args for part in ast.walk(argument)):
                    text = part.value if isinstance(part, ast.Constant) else _name_of(part)
                    if isinstance(text, str) and OF_A_RUN.search(text):
                        return f"{ast.unparse(node)} reads a run's config"
        return ""

    def is_used(self, node: ast.AST, depth: int = 0) -> bool:
        """Whether an expression is used as anything but one side of a comparison, or text."""
        below: ast.AST = node
        while (above := self.parents.get(id(below))) is not None:
            if (name := self.names.get(id(below))) is not None:
                return depth < 3 and self._is_name_used(name, above, depth + 1)
            match above:
                case ast.Compare() | ast.JoinedStr() | ast.Assert():
                    return False
                case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                    if any(isinstance(part, ast.Compare) for part in ast.walk(above)):
                        return False
                case ast.Call(func=func) if below is not func:
                    if COMPARES.search(_name(func)):
                        return False
                    if not PASSES_ON.fullmatch(_name(func)):
                        return True
                case ast.Call(func=ast.Attribute(attr=method)):
                    if not PASSES_ON.fullmatch(method):
                        return not COMPARES.search(method)
                case ast.For(iter=iterated) | ast.If(test=iterated) | ast.While(test=iterated):
                    compared = any(isinstance(part, ast.Compare) for part in ast.walk(above))
                    return below is iterated and isinstance(above, ast.For) and not compared
                case ast.Expr():
                    return False
                case ast.stmt():
                    return True
            below = above
        return True

    def _is_name_used(self, name: str, assigned: ast.AST, depth: int) -> bool:
        scope: ast.AST = assigned
        while not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            scope = self.parents[id(scope)]
        uses = [
            node
            for node in ast.walk(scope)
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        ]
        if not uses:
            return isinstance(scope, ast.Module)  # another file may
        return any(self.is_used(use, depth) for use in uses)


def _name_of(node: ast.AST) -> str:
    return _name(node) if isinstance(node, ast.expr) else ""


if __name__ == "__main__":
    sys.exit(main())
