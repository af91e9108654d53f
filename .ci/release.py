"""python3 .ci/release.py v1.2.3: print the notes of this version, or what is missing before it."""

import re
import subprocess
import sys
from pathlib import Path

VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


def number(tag: str) -> tuple[int, ...] | None:
    """1.2.3 of v1.2.3; none where the tag is no version."""
    found = VERSION.fullmatch(tag)
    return tuple(map(int, found.groups())) if found else None


def sections(changelog: str) -> dict[str, str]:
    """Each version's heading and what stands below it."""
    parts = re.split(r"^## (.+)\n", changelog, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def problems(tag: str, tags: list[str], changelog: str) -> list[str]:
    """What stands in the way of releasing this tag."""
    if number(tag) is None:
        return [f"{tag}: expected a tag like v1.2.3"]
    found = []
    later = [other for other in tags if (number(other) or ()) > (number(tag) or ())]
    if later:
        found.append(f"{tag}: expected a version above {later[0]}, which is tagged already")
    written = sections(changelog)
    headings = [head for head in written if head.startswith(f"[{tag[1:]}]")]
    if not headings:
        found.append(f"CHANGELOG.md: expected a heading ## [{tag[1:]}] - YYYY-MM-DD")
    elif not re.fullmatch(r"\[[\d.]+\] - \d{4}-\d\d-\d\d", headings[0]):
        found.append(f"CHANGELOG.md: ## {headings[0]}: expected ## [{tag[1:]}] - YYYY-MM-DD")
    elif not written[headings[0]]:
        found.append(f"CHANGELOG.md: expected a line under ## {headings[0]}")
    if written.get("[Unreleased]"):
        found.append(f"CHANGELOG.md: expected nothing under [Unreleased]; it belongs to {tag}")
    return found


def main() -> None:
    """Of the repository that this is called in."""
    (tag,) = sys.argv[1:] or ["none"]
    changelog = Path("CHANGELOG.md").read_text("utf-8")
    listed = subprocess.run(["git", "tag", "--list", "v*"], capture_output=True, text=True)
    found = problems(tag, listed.stdout.split(), changelog)
    if found:
        sys.exit("\n".join(found))
    notes = {head: text for head, text in sections(changelog).items() if f"[{tag[1:]}]" in head}
    print(*notes.values())


if __name__ == "__main__":
    main()
