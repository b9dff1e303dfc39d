"""What `graftery compat matrix` answers of several trainings: means, and how far they lie apart."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from graftery.client.commands.compat_answers import finite, matrix_json, number
from graftery.client.commands.options import say, say_json
from graftery.client.render import table

if TYPE_CHECKING:
    from graftery.compat import Figures, Matrix, Spread

_COLUMNS = ("reestimated", "extractor", "head", "measured", "mean", "deviation", "trainings")


def recombined(plain: Sequence[Matrix], again: Sequence[Matrix], *, as_json: bool, as_csv: bool) -> None:
    """The spread as it is; apart from it, with batch norms re-estimated, where there is any."""
    from graftery.compat import spread

    found = [spread(matrices) for matrices in (plain, again) if matrices]
    if as_json:
        said = [_json(each, matrices) for each, matrices in zip(found, (plain, again), strict=False)]
        say_json(said[0] | ({"reestimated": said[1]} if again else {}))
        return
    if as_csv:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for each, restated in zip(found, ("no", "yes"), strict=False):
            writer.writerows(_rows(each, restated))
        say(text.getvalue().rstrip("\n"))
        return
    for each, how in zip(found, ("as they are", "heads' batch norms re-estimated"), strict=False):
        _show(each, how)


def _show(found: Spread, how: str) -> None:
    over = f"mean ± standard deviation over {found.seeds} trainings"
    say(f"Accuracy in %, {how}, {over}: a row is a feature extractor, a column a head")
    table(("", *found.names), _lines(found, found.raw, 100))
    whole = _cell(found.recombined, (), 1, found.seeds)
    say(f"Normalised, {how}, {over}: 100 is the head's own network, 0 chance; recombined {whole}")
    table(("", *found.names), _lines(found, found.normalised, 1))
    if int(found.normalised.count.min()) < found.seeds:
        say(f"(n): over so many of {found.seeds}; in the others the head's own network is not above chance")


def _lines(found: Spread, figures: Figures, scale: float) -> list[tuple[str, ...]]:
    places = range(len(found.names))
    return [
        (name, *(_cell(figures, (row, column), scale, found.seeds) for column in places))
        for row, name in enumerate(found.names)
    ]


def _cell(figures: Figures, at: tuple[int, ...], scale: float, seeds: int) -> str:
    mean, deviation, count = (float(each[at]) for each in (figures.mean, figures.deviation, figures.count))
    apart = f" ± {number(scale * deviation)}" if math.isfinite(deviation) else ""
    return f"{number(scale * mean)}{apart}{'' if count == seeds else f' ({count:.0f})'}"


def _rows(found: Spread, restated: str) -> Iterator[tuple[Any, ...]]:
    for row, extractor in enumerate(found.names):
        for column, head in enumerate(found.names):
            for what, figures in (("accuracy", found.raw), ("normalised", found.normalised)):
                mean, deviation = (finite(float(each[row, column])) for each in (figures.mean, figures.deviation))
                told = ["" if value is None else value for value in (mean, deviation)]
                yield restated, extractor, head, what, *told, int(figures.count[row, column])


def _json(found: Spread, matrices: Sequence[Matrix]) -> dict[str, Any]:
    return {
        "names": list(found.names),
        "trainings": [matrix_json(matrix) for matrix in matrices],
        "accuracy": _figures(found.raw),
        "normalised": _figures(found.normalised),
        "recombined": _figures(found.recombined),
    }


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "mean": _known(figures.mean.tolist()),
        "deviation": _known(figures.deviation.tolist()),
        "count": figures.count.tolist(),
    }


def _known(values: Any) -> Any:
    return [_known(value) for value in values] if isinstance(values, list) else finite(values)
