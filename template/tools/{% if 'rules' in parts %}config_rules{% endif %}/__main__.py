"""The config rules, checked: python -m tools.config_rules, from the project's root. No torch.

A line is excused by a comment that says why: `# config-ok: the standard fixes this rate`.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from .checkpoints import checkpoint_findings
from .conf import Conf, Finding, alias_advice, alias_findings, option_findings
from .scripts import script_findings
from .values import Module, value_findings

EXCUSE = re.compile(r"#\s*config-ok\b:?[ \t]*(\S*)")


def findings(root: Path) -> list[Finding]:
    """All that breaks a rule in the project at `root`, advice among it."""
    conf = Conf(root)
    modules = [Module(root, file) for file in _python_files(root)]
    found = [*value_findings(conf, modules), *alias_findings(conf), *alias_advice(conf)]
    for module in modules:
        found += [] if module.is_test else checkpoint_findings(module)
    for script in {*root.glob("*.sbatch"), *root.glob("scripts/**/*.sbatch")}:
        found += script_findings(conf, script)
    found += option_findings(conf)
    return sorted(not_excused(root, found), key=lambda it: (file_and_line(it), it))


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


def file_and_line(finding: Finding) -> tuple[str, int]:
    """Where it is, to sort by."""
    file, _, line = finding.place.rpartition(":")
    return file, int(line)


def not_excused(root: Path, found: Iterable[Finding]) -> Iterator[Finding]:
    """Those whose line has no `# config-ok:` with a reason."""
    for finding in dict.fromkeys(found):
        file, line = file_and_line(finding)
        lines = (root / file).read_text("utf-8", errors="replace").splitlines()
        excuse = EXCUSE.search(lines[line - 1]) if line <= len(lines) else None
        if not excuse:
            yield finding
        elif not excuse[1]:
            yield finding._replace(wrong=f"{finding.wrong} (its # config-ok: gives no reason)")


if __name__ == "__main__":
    sys.exit(main())
