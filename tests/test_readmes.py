"""Commands, links and length of both READMEs and docs/; test_environments.py types the first."""

import json
import re
import shlex
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt

from .commands import FULL, ROOT, Project, Render, prepared
from .tasks import TASKS

DOCS = sorted((ROOT / "docs").glob("*.md"))
MOST_WORDS = 900
WORDS = {
    "NAME": "dry",
    "FILE_OR_FOLDER": "examples",
    "runs/SWEEP": "runs",
    "runs/first": "runs/dry",
}


def code_lines(markdown: str) -> list[str]:
    """Lines of code blocks, without their comments, and code within the text."""
    lines = []
    for token in MarkdownIt().enable("table").parse(markdown):
        if token.type in ("code_block", "fence"):
            lines += [re.sub(r"\s+#\s.*", "", line).strip() for line in token.content.splitlines()]
        lines += [it.content for it in token.children or [] if it.type == "code_inline"]
    return list(dict.fromkeys(lines))


def commands(program: str, *pages: Path) -> list[str]:
    """Without those that leave something out, or measure for minutes (test_fit.py has these)."""
    lines = [line for page in pages for line in code_lines(page.read_text())]
    found = [
        line
        for line in lines
        if line.startswith(f"{program} ") and not re.search("…|fit=true", line)
    ]
    return list(dict.fromkeys(found))


def test_commands_are_accepted(project: Project, dryrun: str) -> None:
    """Checks before a run accept them, except commands that need the reader's own data or files."""
    found = commands("python train.py", project.path / "README.md", ROOT / "README.md", *DOCS)
    assert len(found) > 30
    for word, value in WORDS.items():
        found = [re.sub(rf"\b{word}\b", value, command) for command in found]
    examples = ROOT / "tests" / "examples" / project.task.name
    shutil.copytree(examples, project.path / "examples", dirs_exist_ok=True)
    outcomes = dict(zip(found, prepared(project, [shlex.split(c)[2:] for c in found]), strict=True))
    refused = {command for command, outcome in outcomes.items() if outcome.startswith("refused")}
    names = "|".join(task.own_data.name for task in TASKS.values())
    own = rf"data\.|data=({names}|dry)|runs/({names})|input=.*\."
    elsewhere = "|".join({task.mode for task in TASKS.values()} - {project.task.mode})
    modes = rf"mode=(export|{elsewhere})\b"
    need_own_data = {c for c in found if re.search(rf"{own}|slurm|devices|nadam|{modes}", c)}
    assert refused <= need_own_data, {command: outcomes[command] for command in refused}


@pytest.mark.task("speech")
def test_commands_that_only_show_or_compare(project: Project, dryrun: str) -> None:
    shown = [
        command
        for command in commands("python train.py", project.path / "README.md", *DOCS)
        if re.search(r"mode=(report|check|explain)|--cfg|--help", command)
        and not re.search(r"SWEEP|first|NAME", command)
    ]
    assert len(shown) >= 6
    for command in shown:
        project.run(command)


def test_make_targets_and_job_scripts_exist(project: Project) -> None:
    makefile = (project.path / "Makefile").read_text()
    ours = makefile + (ROOT / "Makefile").read_text()
    for text, pages in (
        (makefile, [project.path / "README.md", *DOCS]),
        (ours, [ROOT / "README.md"]),
    ):
        for command in commands("make", *pages):
            for word in shlex.split(command.partition("&&")[0])[1:]:
                if "=" not in word:
                    assert re.search(rf"^{word}:", text, re.MULTILINE), command
    scripts = re.findall(r"scripts/\S+", " ".join(commands("sbatch", *DOCS)))
    assert len(scripts) == 3
    for script in scripts:
        assert (project.path / script).is_file()


def test_readmes_stay_short(render: Render, project: Project) -> None:
    task = project.task.name
    for most, page in (
        (MOST_WORDS, ROOT / "README.md"),
        (MOST_WORDS, render(task=task) / "README.md"),
        (1000, project.path / "README.md"),
    ):
        assert len(page.read_text().split()) <= most, page


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing(target: str, folder: Path) -> bool:
    path, _, anchor = target.partition("#")
    page = folder / path
    return not page.exists() or bool(anchor and anchor not in anchors(page))


def test_links_lead_to_files_and_headings() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS, ROOT / "tests" / "README.md"]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if "://" not in link
    ]
    assert len(links) > 25
    for page, link in links:
        assert not missing(link if link[0] != "#" else page.name + link, page.parent), (page, link)
    assert all(f"]({page.name})" in (ROOT / "docs/README.md").read_text() for page in DOCS[1:])


def test_pages_that_messages_and_a_projects_readme_name_exist(project: Project) -> None:
    files = [project.path / "tools" / "check_update.py", *project.path.glob("*/engine/**/*.py")]
    code = "\n".join(file.read_text() for file in files)
    named = set(re.findall(r"""see\(["'](.+?)["']\)""", code))
    assert len(named) >= 5
    named |= set(re.findall(r"`(\w+\.md)`", (project.path / "README.md").read_text()))
    named |= {"updating.md#conflicts"}  # of check_update.py
    for page in named:
        assert not missing(page, ROOT / "docs"), page


@pytest.mark.task("speech")
def test_a_message_names_a_page_that_is_there(project: Project) -> None:
    """The address of a template on this machine is a file's."""
    for arguments, variables in (
        ("+api_key=abc", {}),
        ("+model._target_=torch.nn.Linear", {}),
        ("+hydra.callbacks.x._target_=os.system", {}),
        ("--config-name=mine", {}),
        ("", {"LOCAL_RANK": "0", "WORLD_SIZE": "2"}),
    ):
        said = project.run(f"python train.py {arguments}", 2, **variables).stderr
        page = re.search(r"^ +see file://(.+?)$", said, re.MULTILINE)
        assert page, said
        assert not missing(unquote(page[1]), Path("/")), said


GITHUB = "https://github.com/org/tpl/blob/{}/docs"


@pytest.mark.parametrize(
    ("source", "version", "expected"),
    [
        ("gh:org/tpl", "v1.2.3", GITHUB.format("v1.2.3")),
        ("gh:org/tpl.git", "HEAD", GITHUB.format("HEAD")),
        ("https://github.com/org/tpl", "v1.2.3-4-g0a1b2c3", GITHUB.format("0a1b2c3")),
        ("git+https://github.com/org/tpl.git", "v1", GITHUB.format("v1")),
        ("https://me:key@github.com/org/tpl.git", "v1", GITHUB.format("v1")),
        ("git@github.com:org/tpl.git", "v1", GITHUB.format("v1")),
        ("gl:org/tpl", "v1", "https://gitlab.com/org/tpl/-/blob/v1/docs"),
        (
            "ssh://git@gitlab.example.org/a/tpl.git",
            "v1",
            "https://gitlab.example.org/a/tpl/-/blob/v1/docs",
        ),
        ("https://git.example.org/a/tpl.git", "v1", "https://git.example.org/a/tpl/docs"),
        ("/srv/my tpl", "v1", "file:///srv/my%20tpl/docs"),
    ],
)
def test_the_address_of_docs_follows_from_the_templates(
    source: str, version: str, expected: str
) -> None:
    extension = "jinja2_ansible_filters.AnsibleCoreFiltersExtension"
    environment = Environment(
        loader=FileSystemLoader(ROOT), extensions=[extension], autoescape=True
    )
    text = '{% from "includes/docs.jinja" import docs with context %}{{ docs(version) }}'
    answers = {"_src_path": source}
    assert (
        environment.from_string(text).render(_copier_answers=answers, version=version) == expected
    )


def test_the_manifest_for_kubernetes_sets_what_conf_reads(render: Render) -> None:
    (manifest,) = re.findall(
        r"```yaml\n(.+?)```", (ROOT / "docs/clusters.md").read_text(), re.DOTALL
    )
    service, job = yaml.safe_load_all(manifest)
    pod = job["spec"]["template"]["spec"]
    given = {it["name"] for it in pod["containers"][0]["env"]}
    conf = "".join(file.read_text() for file in (render(**FULL) / "conf").rglob("*.yaml"))
    assert given <= set(re.findall(r"oc\.env:(\w+)", conf))
    first = next(
        it["value"] for it in pod["containers"][0]["env"] if it["name"] == "RUN_FIRST_NODE"
    )
    assert first == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]


@pytest.mark.task("speech")
def test_launch_configurations_start(project: Project) -> None:
    launch = json.loads((project.path / ".vscode" / "launch.json").read_text())
    chosen = {"input:mode": "check", "input:overrides": "model=dryrun training=dryrun"}
    chosen["fileBasenameNoExtension"] = "quick"
    started = 0
    for it in launch["configurations"]:
        given = it["args"] if isinstance(it["args"], str) else shlex.join(it["args"])
        for variable, value in chosen.items():
            given = given.replace(f"${{{variable}}}", value)
        if "program" in it:
            (outcome,) = prepared(project, [shlex.split(given)])
            assert not outcome.startswith("refused"), outcome
            assert (project.path / it["program"]).is_file()
            started += 1
    assert started == 3
