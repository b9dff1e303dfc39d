from __future__ import annotations

from typing import Any

import pytest

from graftery.spec.impact import ImpactOut, NameImpact, why_text
from graftery.spec.lineage import LineageEdge


def _name(reference: str, effect: str, served: bool = True) -> dict[str, Any]:
    return {"reference": reference, "ref": "net:1", "kind": "network", "effect": effect, "served": served}


@pytest.mark.parametrize(
    ("effect", "breaks"),
    [
        ("still_served", False),
        ("still_resolved", False),
        ("moved", True),
        ("fewer_outputs", True),
        ("no_longer_resolved", True),
        ("not_ready", True),
    ],
)
def test_what_breaks(effect: str, breaks: bool) -> None:
    assert NameImpact.model_validate(_name("net", effect)).breaks is breaks


def test_what_is_served_and_breaks() -> None:
    names = [_name("a", "moved"), _name("b", "still_served"), _name("c", "no_longer_resolved", served=False)]
    found = ImpactOut.model_validate(
        {"ref": "net:1", "name": "net", "kind": "network", "names": names, "delete": {"refused": False}}
    )
    assert [name.reference for name in found.broken] == ["a"]
    assert (found.cells, found.left_out, found.delete.refused_by) == ([], 0, [])


def test_the_way_in_words() -> None:
    way = [
        LineageEdge(child="h:1", parent="cat:1", role="category"),
        LineageEdge(child="net:1", parent="h:1", role="adapter"),
    ]
    assert why_text(way) == "category of h:1, adapter of net:1"
    assert why_text([]) == ""
