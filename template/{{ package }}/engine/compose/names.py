"""Maps old names of keys, values and options to new ones, if the part `renames` is there."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import find_part
from ..overrides import leaves


class Names:
    """Nothing is renamed: the part `renames` extends this."""

    def override(self, override: str) -> str:
        """An override, or a key, by the new names."""
        return override

    def path(self, config: str) -> str:
        """The path of a file in conf/, such as model/tiny, by the new name of the option."""
        return config

    def to_compare(self, config: dict[str, Any]) -> dict[str, Any]:
        """The values of a recorded config, each by the whole new name of its key."""
        return dict(leaves(config))

    def problems(self) -> Iterator[str]:
        """Problems of the new names."""
        yield from ()

    def is_gone(self, key: str) -> bool:
        """Whether a recorded key is no longer in conf/, as far as that is known."""
        return False

    def hint(self, old: str) -> str:
        """How an old name can be mapped."""
        answer = "copier update --defaults -d 'parts=[renames, …]' adds renames"
        return f"if it has another name now: {answer}"


@functools.cache
def renames(conf: Path) -> Names:
    """The renames of a project, read once."""
    part = find_part("compose.renames")
    return part.Renames(conf) if part else Names()
