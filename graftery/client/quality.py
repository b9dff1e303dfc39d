"""How good a network is, as a person reads it: what was measured, and what was only estimated, never mixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graftery.spec.wire import PrecheckOut

_INTERVAL = "_interval"
_MINUS = "_minus_"
_OF_NOISE = "with the teacher, on noise; a flag, not an accuracy"

_TRIED = {f"{name}{what}" for name in ("common", "rotation", "head") for what in ("", "_chance")}

Entries = list[tuple[str, object]]


def metrics_entries(metrics: Mapping[str, Any], prefix: str = "") -> Entries:
    """Nested metrics, one line a group: `adapter  accuracy 0.981 [0.95, 0.99]  balanced_accuracy 0.954 [0.92, 0.97]`."""
    metrics, joined = _joined(metrics)
    if isinstance(metrics.get("positions"), list):
        metrics, told = _cloned(metrics)
        joined += told
    flat = {key: value for key, value in metrics.items() if not isinstance(value, Mapping) and value is not None}
    ranges = {key: value for key, value in metrics.items() if key.endswith(_INTERVAL) and isinstance(value, Mapping)}
    groups = {key: value for key, value in metrics.items() if isinstance(value, Mapping) and key not in ranges}
    found: Entries = [*joined, *([(prefix.strip() or "metrics", _numbers(flat))] if flat else [])]
    if (how := groups.pop("evaluated", None)) is not None:
        found.append(("measured", _evaluated(how)))
    agreement = groups.pop("agreement", None)
    for key, value in groups.items():
        found += _group(f"{prefix} {key}", value, ranges.get(f"{key}{_INTERVAL}", {}))
    for key in ranges:
        found += _difference(metrics, key)
    return [*found, ("agreement", f"{_agreed(agreement)}  ({_OF_NOISE})")] if agreement else found


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


def _difference(metrics: Mapping[str, Any], key: str) -> Iterator[tuple[str, object]]:
    """The paired difference `ONE_minus_OTHER_interval`, which is narrower than the intervals of the two it is of."""
    one, minus, other = key.removesuffix(_INTERVAL).partition(_MINUS)
    ours, theirs, ranges = metrics.get(one), metrics.get(other), metrics[key]
    if minus and isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        yield f"{one} minus {other}", _numbers({name: ours[name] - theirs[name] for name in ranges}, ranges)


def _joined(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], Entries]:
    """The metrics without what is said of two modules that were joined with no adapter, and that, in words."""
    rest, found = dict(metrics), Entries()
    if isinstance(rest.get("group"), str):
        how = "" if "recombined" in rest else "; how well they recombine was not measured"
        found.append(("group", f"sha256:{rest.pop('group')[:12]}, which both modules name{how}"))
    elif isinstance(tried := rest.get("group"), Mapping) and set(tried) <= _TRIED:
        if all(value is None for value in rest.pop("group").values()):
            found.append(("group", "stated, and fits; nothing of it was tried"))
        else:
            found.append(
                ("group", f"tried on its images: {_numbers({k: v for k, v in tried.items() if v is not None})}")
            )
    if rest.pop("across_groups", False):
        found.append(
            ("group", "FORCED ACROSS GROUPS: the modules were not trained against one, and may well not recombine")
        )
    share, chance = rest.pop("normalised", None), rest.pop("chance", None)
    if share is not None:
        found.append(
            ("normalised", f"{share:.1f}  (100: as good as on its own category module; 0: chance, {chance:.4g})")
        )
    elif chance is not None and isinstance(rest.get("own"), Mapping):
        found.append(("normalised", f"none: on its own category module it is not above chance, {chance:.4g}"))
    elif chance is not None:
        found.append(("chance", _number(chance)))
    return rest, found


def _cloned(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], Entries]:
    """A clone's metrics without what is said of its making and its cost, and that, in words."""
    rest = dict(metrics)
    place, tried, kept, added = (rest.pop(key, None) for key in ("position", "positions", "kept", "added"))
    found = Entries()
    if place:
        found.append(("position", f"{place['target']}, which stands for the source's {place['source']}"))
    if tried and len(tried) > 1:
        losses = ", ".join(f"{each['target']} {_number(each['held_out_loss'])}" for each in tried)
        found.append(("tried", f"{losses}  (held-out loss)"))
    if kept:
        there, all_ = (sum(pair[place] for pair in kept.values()) for place in (0, 1))
        found.append(("kept", f"{there} of {all_} channels in {len(kept)} layers of the source"))
    if added:
        costs = (f"{added[what]:,} {what} ({added[f'{what}_share']:.0%})" for what in ("parameters", "flops"))
        found.append(("added", f"{', '.join(costs)}, beside the target's"))
    return rest, found


def _evaluated(how: Mapping[str, Any]) -> str:
    return (
        f"on {how.get('samples')} samples; in brackets {how.get('level', 0):.0%} of {how.get('resamples')} resamples,"
        " no promise for other samples"
    )


def _agreed(agreement: Mapping[str, Any]) -> str:
    if "reason" in agreement:
        return f"not known: {agreement['reason']}"
    return _numbers(agreement)


def _numbers(values: Mapping[str, Any], ranges: Mapping[str, Any] | None = None) -> str:
    return "  ".join(f"{key} {_number(value)}{_range((ranges or {}).get(key))}" for key, value in values.items())


def _range(ends: Any) -> str:
    return f" [{', '.join(_number(end) for end in ends)}]" if ends else ""


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
