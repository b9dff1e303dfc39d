"""Answers as a person reads them: tables, cards, trees. Plain text where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from graftery.client.quality import metrics_entries
from graftery.spec.lineage import LineageNode, LineageOut
from graftery.spec.manifest import Facts, SamplesFacts, TensorSpec
from graftery.spec.wire import JobOut, VersionOut

WIDE = 10_000
_PREFIXES = ("", "k", "M", "G", "T")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns under a head; never wrapped or cut where the output goes into a pipe."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in head:
        grid.add_column(title, no_wrap=not sys.stdout.isatty(), overflow="fold")
    for row in rows:
        grid.add_row(*(Text(str(cell)) for cell in row))
    show(grid)


def card(title: str, entries: Iterable[tuple[str, object]]) -> None:
    """A title and its properties; what is empty is left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in entries:
        if value not in (None, "", (), [], {}):
            grid.add_row(f"  {label}", Text(str(value)))
    show(Text(title, style="bold"), grid)


def version_card(version: VersionOut, made_from: Sequence[str] = ()) -> None:
    """What a version is: shapes, size, meaning, where it comes from, how good it is."""
    yanked = f"yanked: {version.yank_reason}" if version.yanked else ""
    manifest = version.manifest
    entries: list[tuple[str, object]] = [
        ("kind", version.kind),
        ("state", yanked),
        ("aliases", ", ".join(version.aliases)),
        ("tags", ", ".join(version.tags)),
        ("digest", f"sha256:{version.digest}"),
        ("size", size(version.size_bytes)),
        ("created", f"{when(version.created_at)}{f' by {version.created_by}' if version.created_by else ''}"),
        *facts_entries(version.facts),
    ]
    if manifest is not None:
        entries += manifest_entries(manifest.model_dump(exclude_none=True))
    entries += [("made from", ", ".join(made_from)), *metrics_entries(version.metrics or {})]
    card(version.ref, entries)


def facts_entries(facts: Facts | SamplesFacts | None) -> list[tuple[str, object]]:
    """What the verifier found, in words."""
    if isinstance(facts, SamplesFacts):
        return [
            ("samples", f"{facts.count}, {'labelled' if facts.labelled else 'without labels'}"),
            ("x", shape(facts.x)),
            ("y", shape(facts.y) if facts.y else ""),
        ]
    if facts is None:
        return []
    return [
        ("input", shape(facts.input)),
        *((f"output {name}", shape(spec)) for name, spec in facts.outputs.items()),
        ("parameters", f"{facts.parameters:,}"),
        ("work", f"{quantity(facts.flops_per_sample)}FLOP a sample" if facts.flops_per_sample else ""),
        ("sketch", "with crops" if facts.has_crops else "yes" if facts.has_sketch else ""),
    ]


def manifest_entries(manifest: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What the owner states, as far as the facts do not say it already."""
    meanings = {name: _meaning(output) for name, output in manifest.get("outputs", {}).items()}
    return [
        ("meaning", "; ".join(f"{name}: {text}" for name, text in meanings.items())),
        ("preprocessing", ", ".join(f"{key} {value}" for key, value in (manifest.get("preprocessing") or {}).items())),
        ("cut at", manifest.get("cut")),
        *_group_entries(manifest),
        *_clone_entries(manifest),
        ("licence", manifest.get("licence")),
        ("description", manifest.get("description")),
        *manifest.get("metadata", {}).items(),
    ]


def _group_entries(manifest: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What the members of a compatibility group agree on."""
    group = manifest.get("group")
    if group is None:
        return []
    common = ", ".join(group["common"])
    heads = "not trained yet" if [*manifest["outputs"]] == ["features"] else ", ".join(manifest["outputs"])
    return [
        ("methods", ", ".join(group["methods"]) or "none"),
        ("shared heads", heads),
        ("common classes", f"{common[:300]}{' ...' if len(common) > 300 else ''}"),
        ("images", shape(TensorSpec.model_validate(group["image"]))),
    ]


def _clone_entries(manifest: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What a clone is a part of, and where it goes in."""
    clone = manifest.get("clone")
    if clone is None:
        return []
    return [
        ("inserted at", f"{clone['position']} of the network {clone['target'][:12]}"),
        ("cloned from", f"{clone['source'][:12]}, behind {clone['origin']}; {clone['keep']:g} of its channels"),
    ]


def certificate_text(certificate: Mapping[str, Any]) -> str:
    """A transplant's certificate in a sentence."""
    asked, different = certificate["networks"], certificate["different"]
    if not asked:
        return "no other network shares a module with it"
    text = f"{certificate['identical']} of {asked} networks that share a module answer as before, to the bit"
    if near := certificate["within_tolerance"]:
        text += f"; {near} within the tolerance of another device class"
    if certificate["left_out"]:
        text += f"; {certificate['left_out']} more were not asked"
    changed = ", ".join(f"{each['network']} ({each['reason']})" for each in different)
    return f"{text}; NOT AS BEFORE: {changed}" if changed else text


def lineage_lines(lineage: LineageOut) -> list[str]:
    """The graph as an indented tree from its root; what was shown once is not unfolded again. Of both ways, a tree each."""
    if lineage.direction != "both":
        return _tree(lineage, lineage.direction)
    root, *above = _tree(lineage, "up")
    _, *below = _tree(lineage, "down")
    titled = (("made from", above), ("made of it", below))
    return [
        root,
        *(line for title, tree in titled if tree for line in (f"  {title}:", *(f"  {line}" for line in tree))),
    ]


def _tree(lineage: LineageOut, direction: Literal["up", "down"]) -> list[str]:
    nodes = {node.ref: node for node in lineage.nodes}
    below: dict[str, list[tuple[str, str]]] = {}
    for edge in lineage.edges:
        near, far = (edge.child, edge.parent) if direction == "up" else (edge.parent, edge.child)
        below.setdefault(near, []).append((far, edge.role))
    root = nodes.get(lineage.root)
    lines, shown = [f"{lineage.root}  {root.kind if root else ''}".rstrip() + _pointed_at(root)], {lineage.root}

    def unfold(ref: str, depth: int) -> None:
        for far, role in below.get(ref, []):
            again, node = far in shown and far in below, nodes.get(far)
            kind = f"{far}  {node.kind if node else ''} (as {role})"
            lines.append(f"{'  ' * depth}{kind}{_pointed_at(node)}{'  ...' if again else ''}")
            if far not in shown:
                shown.add(far)
                unfold(far, depth + 1)

    unfold(lineage.root, 1)
    return lines


def _pointed_at(node: LineageNode | None) -> str:
    """The aliases of a node, and whether it is yanked."""
    if node is None:
        return ""
    aliases = " ".join(f"@{alias}" for alias in node.aliases)
    return f"{f'  {aliases}' if aliases else ''}{'  yanked' if node.yanked else ''}"


def job_line(job: JobOut) -> str:
    """One line on where a job stands."""
    progress = job.progress or {}
    step = f"  {progress.get('phase', '')} {progress['step']}/{progress.get('steps')}" if "step" in progress else ""
    made = job.result or {}
    result = f"  {made.get('network') or made.get('clone', '')}" if made else ""
    error = f"  {job.error.code}: {job.error.message}" if job.error else ""
    asked = ", asked to end" if job.cancel_requested and job.state == "running" else ""
    return f"{job.id}  {job.kind}  {job.state}{asked}{step if job.state == 'running' else ''}{result}{error}".rstrip()


def size(size_bytes: int) -> str:
    return f"{quantity(size_bytes)}B"


def quantity(value: float) -> str:
    """A number with three digits and a prefix: 1.23 M."""
    for prefix in _PREFIXES:
        if abs(value) < 999.5 or prefix == _PREFIXES[-1]:
            break
        value /= 1000
    return f"{value:.3g} {prefix}"


def shape(spec: TensorSpec) -> str:
    return f"{spec.dtype} [{', '.join(str(entry) for entry in spec.shape)}]"


def when(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def _meaning(output: Mapping[str, Any]) -> str:
    names = output.get("class_names") or ()
    classes = f" ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})" if names else ""
    unit = f" in {output['unit']}" if output.get("unit") else ""
    return f"{output['semantics']}{classes}{unit}"


def show(*things: RenderableType) -> None:
    """Print, without the blanks that fill up a table's last column."""
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False)
    with console.capture() as capture:
        for thing in things:
            console.print(thing)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
