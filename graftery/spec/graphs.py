"""Lineage as a graph to look at, in DOT (Graphviz) and in Mermaid: from the teachers on the left to what is served.

Pure functions of the JSON, for the service and the client alike. Nothing of it is trusted: a client draws what some
service answered. The same lineage gives the same text.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from graftery.spec.lineage import LineageNode, LineageOut
from graftery.spec.manifest import Kind

GraphFormat = Literal["dot", "mermaid"]
MEDIA_TYPES: dict[GraphFormat, str] = {"dot": "text/vnd.graphviz", "mermaid": "text/vnd.mermaid"}


class _Look(NamedTuple):
    """How a kind is drawn: Graphviz' shape, Mermaid's brackets, and the colour within."""

    shape: str
    left: str
    right: str
    fill: str


_LOOKS: dict[Kind, _Look] = {
    "teacher": _Look("house", "[/", "\\]", "#e8e3f5"),
    "category": _Look("ellipse", "([", "])", "#d6eaf8"),
    "adapter": _Look("cds", "[/", "/]", "#fdebd0"),
    "task": _Look("hexagon", "{{", "}}", "#d5f5e3"),
    "clone": _Look("component", "[[", "]]", "#fadbd8"),
    "network": _Look("box", "[", "]", "#fcf3cf"),
    "group": _Look("octagon", "((", "))", "#eaecee"),
    "samples": _Look("cylinder", "[(", ")]", "#f2f3f4"),
    "generic": _Look("tab", "[\\", "/]", "#f9ebea"),  # it has no versions: such a node is another service's
}
_SAFE = re.compile(r"[A-Za-z0-9 .:@_-]")


def draw(lineage: LineageOut, how: GraphFormat) -> str:
    """The lineage in this format, as text that ends with a line feed."""
    return dot(lineage) if how == "dot" else mermaid(lineage)


def dot(lineage: LineageOut) -> str:
    """For Graphviz: `dot -Tsvg`."""
    ids = _ids(lineage)
    lines = [
        "digraph lineage {",
        "  rankdir=LR;",
        '  node [style="filled", fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    for node in lineage.nodes:
        look, style = _LOOKS[node.kind], "filled,dashed" if node.yanked else "filled"
        width = ", penwidth=3" if node.ref == lineage.root else ""
        # `\n` within the quotes is DOT's own line break; what is in a line cannot make one.
        label = "\\n".join(map(_quoted, _label(node)))
        attributes = f'label="{label}", shape={look.shape}, style="{style}", fillcolor="{look.fill}"{width}'
        lines.append(f"  {ids[node.ref]} [{attributes}];")
    lines += [f'  {parent} -> {child} [label="{_quoted(role)}"];' for parent, child, role in _edges(lineage, ids)]
    return "\n".join([*lines, "}", ""])


def mermaid(lineage: LineageOut) -> str:
    """For Mermaid, which GitHub and many wikis draw where they stand in Markdown."""
    ids = _ids(lineage)
    lines = ["flowchart LR"]
    for node in lineage.nodes:
        look, label = _LOOKS[node.kind], "<br/>".join(map(_entities, _label(node)))
        lines.append(f'  {ids[node.ref]}{look.left}"{label}"{look.right}')
    lines += [f'  {parent} -->|"{_entities(role)}"| {child}' for parent, child, role in _edges(lineage, ids)]
    for kind, look in _LOOKS.items():
        if members := [ids[node.ref] for node in lineage.nodes if node.kind == kind]:
            lines.append(f"  classDef {kind}Kind fill:{look.fill},stroke:#555,color:#111")
            lines.append(f"  class {','.join(members)} {kind}Kind")
    if yanked := [ids[node.ref] for node in lineage.nodes if node.yanked]:
        lines.append("  classDef yanked stroke-dasharray:5 5")
        lines.append(f"  class {','.join(yanked)} yanked")
    if lineage.root in ids:
        lines.append(f"  style {ids[lineage.root]} stroke-width:3px")
    return "\n".join([*lines, ""])


def _ids(lineage: LineageOut) -> dict[str, str]:
    """Names of our own for the nodes: what stands in a reference never becomes syntax."""
    refs = dict.fromkeys(node.ref for node in lineage.nodes)
    return {ref: f"n{index}" for index, ref in enumerate(refs)}


def _edges(lineage: LineageOut, ids: dict[str, str]) -> list[tuple[str, str, str]]:
    """(parent, child, role) of the edges between nodes that are there; several roles of one pair share an arrow."""
    roles: dict[tuple[str, str], list[str]] = {}
    for edge in lineage.edges:
        if edge.parent in ids and edge.child in ids:
            roles.setdefault((ids[edge.parent], ids[edge.child]), []).append(edge.role)
    return [(parent, child, ", ".join(dict.fromkeys(names))) for (parent, child), names in roles.items()]


def _label(node: LineageNode) -> list[str]:
    """Reference; kind; what points at it."""
    state = f"{node.kind}, yanked" if node.yanked else node.kind
    aliases = " ".join(f"@{alias}" for alias in node.aliases)
    return [node.ref, state, *([aliases] if aliases else [])]


def _quoted(text: str) -> str:
    """Within DOT's double quotes: its escapes (`\\N`, `\\l`) and its entities (`&amp;`) stay text, control characters go."""
    plain = "".join(each if each.isprintable() else " " for each in text)
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _entities(text: str) -> str:
    """Within Mermaid's quotes: all but the plainest characters as its numeric entities, `#35;`."""
    return "".join(each if _SAFE.fullmatch(each) else f"#{ord(each)};" for each in text)
