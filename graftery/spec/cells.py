"""What is made of a generic network's cells: their figures, which are good enough, and a table of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from graftery.spec.generic import Accept, CellOut, Figure, GenericOut

METRICS = ("accuracy", "iou", "r2")
"""The one that a cell is judged by: the first that was measured. All are better where they are greater."""


def figure(metrics: Mapping[str, Any] | None, who: str) -> Figure | None:
    """The figure of `adapter`, `teacher`, `recombined`, ... in a version's metrics."""
    values = (metrics or {}).get(who)
    if not isinstance(values, Mapping):
        return None
    ranges = (metrics or {}).get(f"{who}_interval") or {}
    for name in METRICS:
        if isinstance(values.get(name), int | float):
            ends = ranges.get(name)
            return Figure(metric=name, value=values[name], interval=None if ends is None else tuple(ends))
    return None


def own_figure(metrics: Mapping[str, Any] | None) -> Figure | None:
    """The figure of a network itself, whether it was learned or composed."""
    return figure(metrics, "adapter") or figure(metrics, "recombined")


def kappa(metrics: Mapping[str, Any] | None) -> float | None:
    """The agreement with the teacher in a version's metrics."""
    found = (metrics or {}).get("agreement")
    value = found.get("kappa") if isinstance(found, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def refusal(metrics: Mapping[str, Any], accept: Accept) -> str | None:
    """Why a result does not become a cell; None: it does. An agreement is asked for only where nothing was measured."""
    ours, theirs = figure(metrics, "adapter"), figure(metrics, "teacher")
    if ours is not None and theirs is not None:
        below = 100 * (theirs.value - ours.value)
        if accept.within is not None and below > accept.within:
            return f"its {ours.metric} {ours.value:.3f} is {below:.1f} points below the teacher's; {accept.within:g} are allowed"
        return None
    agreed, found = kappa(metrics), metrics.get("agreement")
    if accept.agreement is None or not isinstance(found, Mapping):
        return None  # of outputs that are no classes there is none
    if agreed is None:
        return f"its agreement with the teacher is not known: {found.get('reason', 'there is nothing to compare')}"
    if agreed < accept.agreement:
        return f"its agreement with the teacher is {agreed:.2f}, below {accept.agreement:g}"
    return None


def within(cell: CellOut, points: float) -> bool:
    """Whether a cell is measured, and at most so many points below its teacher."""
    ours, theirs = cell.figure, cell.teacher
    return ours is not None and theirs is not None and 100 * (theirs.value - ours.value) <= points


_COLUMNS = ("category", "task", "state", "network", "digest", "metric", "value", "low", "high", "teacher", "direct")
_MORE = (
    "samples",
    "labels",
    "agreement",
    "parameters",
    "residual",
    "cka",
    "job",
    "recorded",
    "replays",
    "different",
    "reason",
)


def csv_of(out: GenericOut) -> str:
    """A line for each cell, with a head."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*_COLUMNS, *_MORE])
    for cell in out.cells:
        values = _values(cell)
        lines.writerow([_plain(values[column]) for column in (*_COLUMNS, *_MORE)])
    return text.getvalue()


def _values(cell: CellOut) -> dict[str, Any]:
    low, high = (cell.figure.interval or (None, None)) if cell.figure is not None else (None, None)
    precheck, certificate = cell.precheck, cell.certificate
    return {
        **{name: getattr(cell, name) for name in ("category", "task", "state", "network", "digest", "reason")},
        **{name: getattr(cell, name) for name in ("samples", "labels", "agreement", "parameters")},
        "metric": cell.figure and cell.figure.metric,
        "value": cell.figure and cell.figure.value,
        "low": low,
        "high": high,
        "teacher": cell.teacher and cell.teacher.value,
        "direct": cell.direct and cell.direct.value,
        "residual": precheck and precheck.residual,
        "cka": precheck and precheck.cka,
        "job": cell.job and cell.job.id,
        "recorded": certificate and certificate.recorded,
        "replays": certificate and certificate.replays,
        "different": certificate and certificate.different,
    }


def _plain(value: Any) -> Any:
    """A spreadsheet takes text that begins so for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
