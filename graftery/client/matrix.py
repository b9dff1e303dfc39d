"""The matrix of a generic network as a person reads it: on a wide terminal a table, on a narrow one tables or lines beneath each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from graftery.spec.cells import within
from graftery.spec.generic import CellOut, Figure, GenericOut

LEAST_COLUMN, MOST_COLUMN = 8, 24
MOST_NAME = 28
GAP = 2
NEAR, FAR = 1.0, 5.0
"""Points below the teacher up to which a figure is green, and beyond which it is red."""
_STYLES = {"running": "cyan", "failed": "red", "rejected": "yellow", "missing": "dim"}


def drawn(out: GenericOut, width: int) -> list[RenderableType]:
    """The cells that are there, what their marks mean, and why others are not there.

    Args:
        width: of the terminal, in characters.
    """
    there = {(cell.category, cell.task): cell for cell in out.cells}
    rows = [each.name for each in out.categories if any(category == each.name for category, _ in there)]
    columns = [each.name for each in out.tasks if any(task == each.name for _, task in there)]
    title = Text(f"{out.name}  {counted(out.cells)}", style="bold")
    named = min(MOST_NAME, max((len(name) for name in rows), default=0))
    sizes = {task: _size(task, [there[row, task] for row in rows if (row, task) in there]) for task in columns}
    parts = _parts(sizes, width - named)
    if any(named + GAP + sizes[task] > width for task in columns):
        return [title, _listed(out.cells), *_below(out.cells)]
    return [title, *(_table(rows, part, there) for part in parts), *_below(out.cells)]


def counted(cells: Sequence[CellOut]) -> str:
    """How many there are of each state."""
    counts = Counter(cell.state for cell in cells)
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{len(cells)} cell{'' if len(cells) == 1 else 's'}{f': {states}' if states else ''}"


def cell_text(cell: CellOut) -> Text:
    """How good a cell is, or why it is not there; beneath it the teacher's figure and that of direct learning, where they are known."""
    if cell.state != "ready":
        return Text(cell.state, style=_STYLES[cell.state])
    beside = "  ".join(
        f"{mark} {_number(each)}" for mark, each in (("T", cell.teacher), ("D", cell.direct)) if each is not None
    )
    text = Text.assemble((_own(cell), _colour(cell)), (_mark(cell), "red" if _is_different(cell) else ""))
    return Text.assemble(text, "\n", (beside, "dim")) if beside else text


def _own(cell: CellOut) -> str:
    if cell.figure is not None:
        return _number(cell.figure)
    return "ready" if cell.agreement is None else f"k {cell.agreement:.2f}"


def _number(figure: Figure) -> str:
    return f"{figure.value:.3f}"


def _colour(cell: CellOut) -> str:
    if cell.figure is None or cell.teacher is None:
        return ""
    return "green" if within(cell, NEAR) else "" if within(cell, FAR) else "red"


def _mark(cell: CellOut) -> str:
    if _is_different(cell):
        return " !"
    asked = cell.certificate is not None and cell.certificate.replays
    return " =" if asked else ""


def _is_different(cell: CellOut) -> bool:
    return cell.certificate is not None and cell.certificate.different > 0


def _size(task: str, cells: Sequence[CellOut]) -> int:
    """The characters that a column needs: what is in its cells whole, its name perhaps in several lines."""
    lines = [line for cell in cells for line in cell_text(cell).plain.split("\n")]
    return max([LEAST_COLUMN, min(len(task), MOST_COLUMN), *map(len, lines)])


def _parts(sizes: dict[str, int], width: int) -> Iterator[list[str]]:
    """The columns, as many beside each other as there is room for."""
    part: list[str] = []
    left = width
    for task, size in sizes.items():
        if part and left < size + GAP:
            yield part
            part, left = [], width
        part.append(task)
        left -= size + GAP
    yield part


def _table(rows: Sequence[str], columns: Sequence[str], there: dict[tuple[str, str], CellOut]) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    grid.add_column("", max_width=MOST_NAME, overflow="fold", style="bold")
    for task in columns:
        cells = [there[row, task] for row in rows if (row, task) in there]
        size = _size(task, cells)
        grid.add_column(task, min_width=size, max_width=size, overflow="fold")
    for row in rows:
        cells_of = (there.get((row, task)) for task in columns)
        grid.add_row(row, *(Text() if cell is None else cell_text(cell) for cell in cells_of))
    return grid


def _listed(cells: Sequence[CellOut]) -> Text:
    """A paragraph for each cell, where not even one column has room."""
    lines = Text()
    for cell in cells:
        text = cell_text(cell)
        lines.append_text(Text.assemble((f"{cell.category} x {cell.task}", "bold"), "\n  "))
        lines.append_text(Text("  ").join(text.split("\n")))
        lines.append("\n")
    lines.right_crop(1)
    return lines


def _below(cells: Sequence[CellOut]) -> Iterator[Text]:
    meanings = [
        ("T the teacher's", any(cell.teacher is not None for cell in cells)),
        ("D learned directly from the labelled samples", any(cell.direct is not None for cell in cells)),
        (
            "k kappa with the teacher on noise, no accuracy",
            any(_own(cell).startswith("k ") for cell in cells if cell.state == "ready"),
        ),
        ("= asked again after other jobs, the same answers", any(_mark(cell) == " =" for cell in cells)),
        ("! ANSWERED DIFFERENTLY, see its certificate", any(_is_different(cell) for cell in cells)),
    ]
    if said := [text for text, is_there in meanings if is_there]:
        yield Text("; ".join(said), style="dim")
    for cell in cells:
        if cell.reason is not None:
            yield Text.assemble(
                (f"{cell.category} x {cell.task} ", "bold"),
                (f"{cell.state}: ", _STYLES.get(cell.state, "")),
                cell.reason,
            )
