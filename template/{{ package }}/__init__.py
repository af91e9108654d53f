"""The modes, one file each: training.py, evaluation.py and recognition.py."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine.project import Project


def load_project() -> "Project":
    """PROJECT of project.py, imported late: --help and Hydra's plugins need not wait for it."""
    from .project import PROJECT

    return PROJECT
