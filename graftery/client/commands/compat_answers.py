"""What `graftery compat` answers: cards and tables for a person, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftery.client.commands.options import say, say_json
from graftery.client.render import card, shape, table

if TYPE_CHECKING:
    from torch import Tensor

    from graftery.compat import Checked, Matrix, Task, Trained
    from graftery.module import ModuleFile

_COLUMNS = ("reestimated", "extractor", "head", "accuracy", "normalised", "chance")


def founded(path: Path, file: ModuleFile, *, as_json: bool) -> None:
    manifest, spec = file.manifest, file.manifest.group
    if as_json or spec is None:
        say_json({"path": str(path), "digest": file.digest, "manifest": manifest})
        return
    entries = [
        ("digest", f"sha256:{file.digest}"),
        ("methods", ", ".join(spec.methods)),
        ("common", "; ".join(f"{name}: {', '.join(words)}" for name, words in spec.common.items())),
        ("image", shape(spec.image)),
        ("split at", f"{manifest.cut}, {shape(manifest.input)}"),
    ]
    card(str(path), entries)


def trained(
    tasks: Sequence[Task],
    done: Trained,
    written: Mapping[str, Mapping[str, Path]],
    group: Path | None,
    *,
    as_json: bool,
) -> None:
    """A row for each network: how well it does its own task, and its files."""
    facts = {task.name: _facts(task, done) for task in tasks}
    if as_json:
        members = {name: {**facts[name], "files": _texts(written[name])} for name in facts}
        say_json({"members": members, "group": {"digest": done.group.digest, "path": group and str(group)}})
        return
    head = ("NETWORK", "IMAGES", "ACCURACY", "CHANCE", "FEATURE EXTRACTOR", "HEAD")
    rows = (
        (
            name,
            each["images"],
            _percent(each["accuracy"]),
            _percent(each["chance"]),
            written[name]["category"],
            written[name].get("task", "not learned: no labels"),
        )
        for name, each in facts.items()
    )
    table(head, rows)
    if group is not None:
        say(f"{group} has the shared heads: train others against it")


def checked(path: Path, group: ModuleFile, found: Checked, *, as_json: bool) -> None:
    if as_json:
        say_json({"path": str(path), "group": group.digest, "reached": asdict(found)})
        return
    chances = {"common": found.common_chance or 0.0, "rotation": found.rotation_chance or 0.0}
    reached = {"common": found.common, "rotation": found.rotation}
    entries = [("group", f"sha256:{group.digest}")] + [
        (f"head {name}", f"right on {share:.1%} of the group's images; chance is {chances[name]:.1%}")
        for name, share in reached.items()
        if share is not None
    ]
    if found.head is not None and found.head_chance is not None:
        where = "of the common classes it names, from the first member's features"
        entries.append(("this head", f"tells {found.head:.1%} {where}; chance is {found.head_chance:.1%}"))
    looked = [] if entries[1:] else [("stated", "and fits; not tried: the group lacks what it could be tried on")]
    card(f"{path}: a member of its group", entries + looked)


def recombined(plain: Matrix, again: Matrix | None, *, as_json: bool, as_csv: bool) -> None:
    """The matrix as it is; apart from it, with batch norms re-estimated."""
    if as_json:
        say_json(matrix_json(plain) | ({} if again is None else {"reestimated": matrix_json(again)}))
        return
    if as_csv:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([*_rows(plain, "no"), *([] if again is None else _rows(again, "yes"))])
        say(text.getvalue().rstrip("\n"))
        return
    _show(plain, "as they are")
    if again is not None:
        _show(again, "heads' batch norms re-estimated")


def _show(matrix: Matrix, how: str) -> None:
    names = matrix.names
    own = {name: float(matrix.chance[at]) for at, name in enumerate(names)}
    say(f"Accuracy in %, {how}: a row is a feature extractor, a column a head")
    table(("", *names), [*_lines(names, 100 * matrix.raw), ("chance", *(number(100 * own[name]) for name in names))])
    say(f"Normalised, {how}: 100 is the head's own network, 0 chance; recombined {number(matrix.recombined)}")
    table(("", *names), _lines(names, matrix.normalised))
    for at in matrix.normalised.diagonal().isnan().nonzero().flatten().tolist():
        reached = f"{float(matrix.raw[at, at]):.1%} of {matrix.counts[at]} images"
        say(f"{names[at]}: its own network is not above chance ({reached}): nothing is normalised by it")


def _lines(names: Sequence[str], values: Tensor) -> list[tuple[str, ...]]:
    return [(name, *map(number, row)) for name, row in zip(names, values.tolist(), strict=True)]


def _rows(matrix: Matrix, restated: str) -> Iterator[tuple[Any, ...]]:
    raw, normalised, chance = matrix.raw.tolist(), matrix.normalised.tolist(), matrix.chance.tolist()
    for row, extractor in enumerate(matrix.names):
        for column, head in enumerate(matrix.names):
            value = finite(normalised[row][column])
            yield restated, extractor, head, raw[row][column], "" if value is None else value, chance[column]


def matrix_json(matrix: Matrix) -> dict[str, Any]:
    return {
        "names": list(matrix.names),
        "accuracy": matrix.raw.tolist(),
        "chance": matrix.chance.tolist(),
        "normalised": [[finite(value) for value in row] for row in matrix.normalised.tolist()],
        "recombined": finite(matrix.recombined),
    }


def _facts(task: Task, done: Trained) -> dict[str, Any]:
    from graftery.compat.recombination import chance_of

    chance = None if task.test is None else chance_of(task.test)
    return {"images": len(task.train), "accuracy": done.members[task.name].accuracy, "chance": chance}


def _texts(paths: Mapping[str, Path]) -> dict[str, str]:
    return {part: str(path) for part, path in paths.items()}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"


def finite(value: float) -> float | None:
    """JSON has no infinity: a head whose own network is not above chance has no normalised figure."""
    return value if math.isfinite(value) else None
