"""No rendering exceeds its budget of files and lines."""

from benchmarks.weigh import table

from .commands import Render


def test_renderings_are_within_their_budgets() -> None:
    rows, fits = table()
    assert fits, "\n".join(rows)


def test_the_loop_stays_short(render: Render) -> None:
    loop = render() / "my_project" / "training.py"
    assert len(loop.read_text().splitlines()) <= 110
