"""Lineage drawn: exact texts, the same each time, and hostile names that stay text."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest

from graftery.spec.graphs import GraphFormat, dot, draw, mermaid
from graftery.spec.lineage import LineageOut
from graftery.spec.manifest import Kind

HOSTILE = [
    'a"]; subgraph x { evil [label="',
    "a\\",
    "a\\N\\l",
    "a\nend\n  n0 --> n1",
    "a\r\x00\x1b[31m\u2028b",
    "<script>alert(1)</script>",
    "&lt;b&gt; #quot; #35;",
    '"]:::x\n  click n0 "javascript:alert(1)"',
    "`**markdown**`",
    "%%{init: {}}%%",
    ']) }} )] |" --> ',
    "名前 é",
]


def _lineage(refs: dict[str, str], edges: list[tuple[str, str, str]], root: str, **more: Any) -> LineageOut:
    nodes = [{"ref": ref, "kind": kind, "digest": "d", **more} for ref, kind in refs.items()]
    made = [{"child": child, "parent": parent, "role": role} for child, parent, role in edges]
    return LineageOut.model_validate({"root": root, "direction": "up", "nodes": nodes, "edges": made})


@pytest.fixture
def lineage() -> LineageOut:
    refs = {"t:1": "teacher", "f:1": "category", "net:1": "network"}
    edges = [
        ("f:1", "t:1", "teacher"),
        ("net:1", "f:1", "category"),
        ("net:1", "f:1", "task"),
        ("net:1", "x:1", "task"),
    ]
    found = _lineage(refs, edges, "net:1")
    found.nodes[1].yanked = True
    found.nodes[2].aliases = ["default", "stable"]
    return found


def test_dot(lineage: LineageOut) -> None:
    assert dot(lineage).splitlines() == [
        "digraph lineage {",
        "  rankdir=LR;",
        '  node [style="filled", fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
        '  n0 [label="t:1\\nteacher", shape=house, style="filled", fillcolor="#e8e3f5"];',
        '  n1 [label="f:1\\ncategory, yanked", shape=ellipse, style="filled,dashed", fillcolor="#d6eaf8"];',
        '  n2 [label="net:1\\nnetwork\\n@default @stable", shape=box, style="filled", fillcolor="#fcf3cf", penwidth=3];',
        '  n0 -> n1 [label="teacher"];',
        '  n1 -> n2 [label="category, task"];',
        "}",
    ]


def test_mermaid(lineage: LineageOut) -> None:
    assert mermaid(lineage).splitlines() == [
        "flowchart LR",
        '  n0[/"t:1<br/>teacher"\\]',
        '  n1(["f:1<br/>category#44; yanked"])',
        '  n2["net:1<br/>network<br/>@default @stable"]',
        '  n0 -->|"teacher"| n1',
        '  n1 -->|"category#44; task"| n2',
        "  classDef teacherKind fill:#e8e3f5,stroke:#555,color:#111",
        "  class n0 teacherKind",
        "  classDef categoryKind fill:#d6eaf8,stroke:#555,color:#111",
        "  class n1 categoryKind",
        "  classDef networkKind fill:#fcf3cf,stroke:#555,color:#111",
        "  class n2 networkKind",
        "  classDef yanked stroke-dasharray:5 5",
        "  class n1 yanked",
        "  style n2 stroke-width:3px",
    ]


@pytest.mark.parametrize("how", get_args(GraphFormat))
def test_every_kind_has_a_look_of_its_own_and_the_same_text_each_time(how: GraphFormat) -> None:
    kinds = {f"v{index}:1": kind for index, kind in enumerate(kinds_of())}
    found = _lineage(kinds, [], "v0:1")
    assert draw(found, how) == draw(found.model_copy(deep=True), how)
    lines = [line for line in draw(found, how).splitlines() if re.match(r"  n\d+\W", line)]
    looks = [re.sub(r"n\d+|v\d+:1|" + "|".join(kinds.values()), "", line) for line in lines]
    assert len(lines) == len(kinds)
    assert len({look.replace(", penwidth=3", "") for look in looks}) == len(kinds)


def kinds_of() -> list[str]:
    return [kind for each in get_args(Kind) for kind in (get_args(each) or (each,))]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text_in_dot(text: str) -> None:
    found = _lineage({text: "task", "net:1": "network"}, [("net:1", text, "task")], text, aliases=[text])
    lines = dot(found).split("\n")
    assert len(lines) == 9, "no name makes a line"
    for line in lines[4:6]:
        strings = re.findall(r'"(?:[^"\\]|\\.)*"', line)
        rest = re.sub(r'"(?:[^"\\]|\\.)*"', "S", line)
        assert re.fullmatch(r"  n\d \[label=S, shape=\w+, style=S, fillcolor=S(, penwidth=3)?\];", rest), line
        # Of DOT's escapes there are its line breaks between our lines, and such as stand for themselves.
        assert set(re.findall(r"\\(.)", strings[0])) <= {"n", "\\", '"'}
        assert re.sub(r"\\\\|\\\"", "", strings[0]).count("\\n") == 2, "two breaks between three lines, and no other"
        assert not re.search(r"&(?!amp;)", strings[0])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text_in_mermaid(text: str) -> None:
    found = _lineage({text: "task", "net:1": "network"}, [("net:1", text, "task")], text, aliases=[text])
    lines = mermaid(found).split("\n")
    assert len(lines) == 10
    label = r"(?:[A-Za-z0-9 .:@_-]|#\d+;|<br/>)*"
    assert re.fullmatch(rf'  n0\{{\{{"{label}"\}}\}}', lines[1])
    assert re.fullmatch(rf'  n1\["{label}"\]', lines[2])
    back = re.sub(r"#(\d+);", lambda found: chr(int(found[1])), lines[1].split("<br/>")[0].removeprefix('  n0{{"'))
    assert back == text


def test_an_edge_to_what_is_not_there_is_left_out(lineage: LineageOut) -> None:
    assert "x:1" not in dot(lineage) + mermaid(lineage)
    assert "style" not in mermaid(_lineage({"a:1": "task"}, [], "b:1"))
