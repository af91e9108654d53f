"""make schema: JSON Schemas of conf/, from the types, so that editors complete and check YAML."""

import ast
import inspect
import json
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from ..config import Config
from .aliases import PACKAGE, Aliases
from .schema import Section, groups

FOLDER = Path(".vscode", "schemas")

# what stands for a value: an interpolation, or Hydra's mark of a value that must be given
LATER = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}


class Described(GenerateJsonSchema):
    """With the text that stands under a field in the types.

    pydantic's use_attribute_docstrings does the same, in each process that imports the types.
    """

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """The schema of one section."""
        found = super().model_schema(schema)
        for name, text in _field_docstrings(schema["cls"]).items():
            found["properties"][name]["description"] = text
        return found


def _field_docstrings(section: type) -> dict[str, str]:
    texts: dict[str, str] = {}
    for base in section.__mro__:
        source = inspect.getsource(base) if issubclass(base, Section) else ""
        for node in ast.parse(textwrap.dedent(source)).body:
            for field, below in pairwise(node.body if isinstance(node, ast.ClassDef) else []):
                match field, below:
                    case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str() as text)):
                        texts.setdefault(name, inspect.cleandoc(text))
    return texts


def schemas(conf: Path) -> dict[str, str]:
    """The text of each schema by its file's name; config.json is of files that set any group."""
    aliases = Aliases(conf).targets
    found: dict[str, Any] = {"config": Config}
    for name in groups(Config):
        # a file with a package of its own, such as a search, sets keys of any group
        if any(not PACKAGE.search(f.read_text("utf-8")) for f in (conf / name).glob("*.yaml")):
            found[name] = Config.model_fields[name].annotation
    texts = {}
    for name, kind in found.items():
        schema = _partial(TypeAdapter(kind).json_schema(schema_generator=Described))
        more: dict[str, Any] = {"defaults": {"type": "array"}}
        if name == "config":
            more["hydra"] = {"type": "object"}
        for alias, target in aliases.items():
            if alias.startswith(f"{name}."):
                more[alias.partition(".")[2]] = {"const": f"${{.{target.partition('.')[2]}}}"}
        for section in _top_levels(schema):
            section["properties"] |= more
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        texts[f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return texts


def _partial(node: Any) -> Any:
    """The same schema for a file that may state a part of it, and interpolate any value."""
    if isinstance(node, list):
        return [_partial(item) for item in node]
    if not isinstance(node, dict):
        return node
    left_out = ("required", "discriminator", "title", "properties")
    kept = {key: value for key, value in node.items() if key not in left_out}
    # a file without its kind may fit several types
    partial = {"anyOf" if key == "oneOf" else key: _partial(it) for key, it in kept.items()}
    if properties := node.get("properties"):
        partial["properties"] = {key: _or_later(_partial(it)) for key, it in properties.items()}
    return partial


def _or_later(value: dict[str, Any]) -> dict[str, Any]:
    described = {key: value.pop(key) for key in ("description",) if key in value}
    return {**described, "anyOf": [value, LATER]}


def _top_levels(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The sections that a file's top level may be, one for each kind."""
    if "properties" in schema:
        return [schema]
    names = [option["$ref"].rpartition("/")[2] for option in schema.get("anyOf", [schema])]
    return [schema["$defs"][name] for name in names]


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, text in schemas(Path("conf")).items():
        (FOLDER / file).write_text(text, "utf-8")
