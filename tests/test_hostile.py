"""Any answer gives valid files that show the text as given, or is refused with the reason."""

import ast
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import copier
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from validate_pyproject.api import Validator

from .commands import FULL, ROOT, shown
from .history import copy_template

# what means something to YAML, TOML, Python, Markdown, Jinja, a shell, or HTML
PIECES = [
    *("'", '"', '"""', "\\", "`", "$(touch x)", "${HOME}", "{{ 7*7 }}", "{% raw %}", "{#", "#}"),
    *(": ", " #", "---", "- ", "[a](b)", "![", "*", "_", "__", "~~", "&amp;", "&", "<b>", "-->"),
    *("%s", "!!python/name:os", "&a", "*a", "|", ">", "? ", "= ", "[x]", "{a: b}", "@", "%", "~"),
    *(
        "ü",
        "e\u0301",
        "日本語",
        "العربية",
        "🚀",
        "👩\u200d🚀",
        "🇺🇳",
        " ",
        "   ",
        "1. ",
        "42",
        "null",
    ),
    *("yes", "word", "Name", "x" * 70),
]
UNPRINTABLE = ["\n", "\r\n", "\t", "\x00", "\x1b[31m", "\x7f", "\ud800", "\u202e", "\xa0", "\u2028"]
ASCII = st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"])
# lists of some length: left alone, hypothesis draws mostly short and repeated ones
TEXT = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3),
    st.lists(st.sampled_from(PIECES), min_size=6, max_size=12),
    st.lists(ASCII, min_size=12, max_size=30),
    st.lists(st.characters(exclude_categories=["C", "Z"]), min_size=6, max_size=12),
).map(lambda pieces: "".join(pieces)[:200])
UNFIT = st.one_of(
    st.tuples(st.just("a"), TEXT, st.sampled_from(UNPRINTABLE)).map("".join),
    st.integers(501, 600).map(lambda length: "n" * length),
)
NAMES = st.one_of(
    st.from_regex(r"[a-z_][a-z0-9_]{0,41}", fullmatch=True),
    st.sampled_from(["on", "null", "match", "self", "a_", "_", "a__b", "e5", "nan", "con", "A"]),
    TEXT,
)
RESERVED = (ROOT / "includes" / "reserved-names.txt").read_text().split()
# deterministic: a failure in CI is a failure here
FEW = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source") / "template"
    copy_template(source)
    return source


class Rendered:
    """A project from these answers, or why it was refused; gone after the with block."""

    def __init__(self, source: Path, **answers: str) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "project"
        self.refused = ""
        try:
            copier.run_copy(str(source), self.path, FULL | answers, defaults=True, quiet=True)
        except ValueError as error:
            self.refused = str(error)
            assert not self.path.exists(), "a refused answer leaves nothing behind"

    def __enter__(self) -> "Rendered":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

    def text(self, file: str) -> str:
        return (self.path / file).read_text("utf-8")


def is_valid(project: Path) -> None:
    """Every file is what its name says."""
    for file in project.rglob("*"):
        if file.is_dir():
            continue
        text = file.read_text("utf-8")
        if file.suffix in (".yaml", ".yml"):
            yaml.safe_load(text)
        elif file.suffix == ".py":
            ast.parse(text)
        elif file.suffix == ".sbatch":
            subprocess.run(["bash", "-n", str(file)], check=True)
    Validator()(tomllib.loads((project / "pyproject.toml").read_text("utf-8")))


@FEW
@given(name=TEXT.filter(str.strip), description=st.just("") | TEXT, author=st.just("") | TEXT)
@example(name="a_b _c_", description='"', author="\\")
def test_texts_are_shown_as_given(source: Path, name: str, description: str, author: str) -> None:
    answers = {"project_name": name, "description": description, "author_name": author}
    with Rendered(source, **answers) as rendered:
        assert not rendered.refused
        is_valid(rendered.path)
        readme = rendered.text("README.md")
        assert shown(readme, "heading_open") == name.strip()
        if description.strip():
            assert shown(readme, "paragraph_open") == description.strip()
        project = tomllib.loads(rendered.text("pyproject.toml"))["project"]
        assert project["description"] == description
        assert project.get("authors") == ([{"name": author}] if author else None)
        assert (author or f"the authors of {name}") in rendered.text("LICENSE")
        remembered = yaml.safe_load(rendered.text(".copier-answers.yml"))
        assert answers.items() <= remembered.items()
        package = remembered["package"]
        assert re.fullmatch("[a-z]([a-z0-9_]*[a-z0-9])?", package), "a default that is accepted"
        assert package not in RESERVED


@FEW
@given(question=st.sampled_from(["project_name", "description", "author_name"]), text=UNFIT)
def test_unfit_texts_are_refused(source: Path, question: str, text: str) -> None:
    with Rendered(source, **{question: text}) as rendered:
        assert question in rendered.refused
        assert ("At most" if len(text) > 200 else "One line of printable") in rendered.refused


@FEW
@given(package=NAMES)
def test_a_package_can_be_imported_or_is_refused(source: Path, package: str) -> None:
    with Rendered(source, package=package) as rendered:
        if rendered.refused:
            assert "package" in rendered.refused
            reasons = ("At most 40", "no package name: lower-case", "is taken")
            assert any(reason in rendered.refused for reason in reasons)
            return
        is_valid(rendered.path)
        assert package.isidentifier()
        assert (rendered.path / package / "training.py").is_file()
        for tracker, key in (("wandb", "project"), ("mlflow", "experiment")):
            values = yaml.safe_load(rendered.text(f"conf/tracker/{tracker}.yaml"))
            assert values[key] == package, "a name, not what YAML takes for one"


@pytest.mark.parametrize("folder", ["my project", "it's; rm -rf *", "$HOME"])
def test_the_folder_in_the_closing_message_can_be_pasted(
    source: Path, tmp_path: Path, folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    copier.run_copy(str(source), tmp_path / folder, defaults=True)
    (cd,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("    cd ")]
    done = subprocess.run(["bash", "-c", f"{cd} && pwd"], capture_output=True, text=True, cwd="/")
    assert done.stdout == f"{tmp_path / folder}\n"
