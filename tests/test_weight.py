"""No rendering exceeds its budget of files and lines."""

from benchmarks.weigh import table


def test_renderings_are_within_their_budgets() -> None:
    rows, fits = table()
    assert fits, "\n".join(rows)
