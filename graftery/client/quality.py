"""How good a network is, as a person reads it: what was measured, and what was only estimated, never mixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graftery.spec.wire import PrecheckOut

_INTERVAL = "_interval"
_DIFFERENCE = "adapter_minus_teacher_interval"
_OF_NOISE = "with the teacher, on noise; a flag, not an accuracy"

Entries = list[tuple[str, object]]


def metrics_entries(metrics: Mapping[str, Any], prefix: str = "") -> Entries:
    """Nested metrics, one line a group: `adapter  accuracy 0.981 [0.95, 0.99]  balanced_accuracy 0.954 [0.92, 0.97]`."""
    flat = {key: value for key, value in metrics.items() if not isinstance(value, Mapping) and value is not None}
    ranges = {key: value for key, value in metrics.items() if key.endswith(_INTERVAL) and isinstance(value, Mapping)}
    groups = {key: value for key, value in metrics.items() if isinstance(value, Mapping) and key not in ranges}
    found: Entries = [(prefix.strip() or "metrics", _numbers(flat))] if flat else []
    if (how := groups.pop("evaluated", None)) is not None:
        found.append(("measured", _evaluated(how)))
    agreement = groups.pop("agreement", None)
    for key, value in groups.items():
        found += _group(f"{prefix} {key}", value, ranges.get(f"{key}{_INTERVAL}", {}))
    found += _difference(metrics, ranges.get(_DIFFERENCE))
    return [*found, ("agreement", f"{_numbers(agreement)}  ({_OF_NOISE})")] if agreement else found


def precheck_entries(found: PrecheckOut) -> Entries:
    """What is known before a transplant, a line a fact."""
    if found.status != "ready":
        return [("pre-check", f"{found.status}{f': {found.reason}' if found.reason else ''}")]
    fits = "fits as it is" if found.identity else "does not fit as it is"
    return [
        ("features", f"{_shape(found.features)} {fits} where the task takes {_shape(found.wanted)}"),
        ("adapter", f"{', '.join(found.layers or ())}: {found.parameters:,} parameters"),
        ("likeness", _likeness(found.residual, found.cka, found.reason)),
        *((f"  to {near.name}", _likeness(near.residual, near.cka, near.reason)) for near in found.neighbours),
        *([("", f"on {found.images} noise images; a hint, not an accuracy")] if found.neighbours else []),
    ]


def _likeness(residual: float | None, cka: float | None, reason: str | None) -> str:
    known = [
        f"residual {_number(residual)}" if residual is not None else "",
        f"CKA {_number(cka)}" if cka is not None else "",
        f"not measured: {reason}" if residual is None and reason else "",
    ]
    return "  ".join(part for part in known if part)


def _shape(sizes: Sequence[int | None] | None) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in sizes or ())}]"


def _group(label: str, values: Mapping[str, Any], ranges: Mapping[str, Any]) -> Entries:
    return [(label.strip(), _numbers(values, ranges))] if ranges else metrics_entries(values, label)


def _difference(metrics: Mapping[str, Any], ranges: Mapping[str, Any] | None) -> Iterator[tuple[str, object]]:
    """The paired difference, whose interval is narrower than those of the two it is of."""
    ours, theirs = metrics.get("adapter"), metrics.get("teacher")
    if ranges and isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        yield "adapter minus teacher", _numbers({name: ours[name] - theirs[name] for name in ranges}, ranges)


def _evaluated(how: Mapping[str, Any]) -> str:
    return (
        f"on {how.get('samples')} samples; in brackets {how.get('level', 0):.0%} of {how.get('resamples')} resamples,"
        " no promise for other samples"
    )


def _numbers(values: Mapping[str, Any], ranges: Mapping[str, Any] | None = None) -> str:
    return "  ".join(f"{key} {_number(value)}{_range((ranges or {}).get(key))}" for key, value in values.items())


def _range(ends: Any) -> str:
    return f" [{', '.join(_number(end) for end in ends)}]" if ends else ""


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
