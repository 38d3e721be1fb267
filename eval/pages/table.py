"""A table of the page: rows of cells, of which the template makes HTML."""

from dataclasses import dataclass

from eval.scores.figure import Figure, written_interval, written_value


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: the cell's content.
        notes: smaller lines below.
        kind: class of the style sheet: "number", "name" or none.
        failed: whether it counts failures.
    """

    text: str
    notes: tuple[str, ...] = ()
    kind: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        label: name for readers who cannot see it.
        names: names of the columns.
        rows: cells, the first of each being the row's name.
        first_number: column from which on numbers stand.
    """

    label: str
    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    first_number: int


def number(figure: Figure | None, parts: bool = False) -> Cell:
    """A figure with its interval; with `parts` also what it is made of."""
    if figure is None:
        return Cell("-", kind="number")
    failed = f", {figure.failed} failed" if figure.failed else ""
    notes = [written_interval(figure), f"n = {figure.n}{failed}"]
    if parts:
        if figure.numerator and set(figure.parts) == {"substitutions", "deletions", "insertions"}:
            notes.append("S {substitutions:.0f} / D {deletions:.0f} / I {insertions:.0f}".format(**figure.parts))
        if figure.parts.get("unusable"):
            notes.append(f"{figure.parts['unusable']:.0f} unusable replies")
        if abs(figure.macro - figure.value) > 1e-9:
            notes.append(f"macro {written_value(figure, figure.macro)}")
    return Cell(written_value(figure), tuple(notes), "number")


def plain_number(figure: Figure | None) -> Cell:
    """A figure alone."""
    return Cell("-" if figure is None else written_value(figure), kind="number")
