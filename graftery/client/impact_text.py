"""An impact as a person reads it: what breaks of what is served comes first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graftery.spec.impact import ImpactOut, NameImpact, why_text

SHOWN = 20
"""Lines of a section; `--json` has all."""


def impact_lines(impact: ImpactOut) -> list[str]:
    """Sections, each a title and its lines; a section with nothing in it is left out."""
    broken = impact.broken
    other = [name for name in impact.names if name.breaks and not name.served]
    kept = [name for name in impact.names if not name.breaks]
    state = ", yanked" if impact.yanked else ""
    lines = [f"{impact.ref}  {impact.kind}{state}"]
    lines += _section("served now, and would break", [_name(name) for name in broken])
    lines += _section("names that would lead elsewhere or nowhere", [_name(name) for name in other])
    lines += _section("names that stay as they are", [_name(name) for name in kept])
    lines += _section(
        "made of it, and goes on",
        [f"{each.ref}  {each.kind}  {_words(each.effect)}  ({why_text(each.why)})" for each in impact.dependents],
    )
    lines += _section(
        "jobs that need it, and go on",
        [f"{job.id}  {job.kind}  {job.state}  (pins {', '.join(job.pins)})" for job in impact.jobs],
    )
    lines += _section("cells", [f"{cell.generic}  {cell.category} in {cell.task}" for cell in impact.cells])
    if impact.left_out:
        lines.append(f"  and {impact.left_out} more names or versions, which the service did not list")
    if impact.delete.refused:
        lines += _section("a delete is refused by", impact.delete.refused_by)
    if len(lines) == 1:
        lines.append("  nothing else names it")
    return lines


def breaks_text(broken: Sequence[NameImpact]) -> str:
    """What breaks, in half a sentence: `cat, cat@stable and 3 more`."""
    names = [name.reference for name in broken]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"  {title}:"
        yield from (f"    {line}" for line in lines[:SHOWN])
        if len(lines) > SHOWN:
            yield f"    ... and {len(lines) - SHOWN} more"


def _name(name: NameImpact) -> str:
    leads = f" -> {name.ref}" if name.reference != name.ref else ""
    then = f" to {name.then}" if name.then else ""
    outputs = f" ({', '.join(name.outputs)})" if name.outputs else ""
    return f"{name.reference}{leads}  {name.kind}  {_words(name.effect)}{then}{outputs}"


def _words(effect: str) -> str:
    return effect.replace("_", " ")
