from __future__ import annotations

from typing import Any

from graftery.client.impact_text import breaks_text, impact_lines
from graftery.spec.impact import ImpactOut


def _impact(**more: Any) -> ImpactOut:
    base = {"ref": "net:1", "name": "net", "kind": "network", "delete": {"refused": False}}
    return ImpactOut.model_validate(base | more)


def _name(reference: str, effect: str, **more: Any) -> dict[str, Any]:
    return {"reference": reference, "ref": "net:1", "kind": "network", "effect": effect, "served": True} | more


def test_what_is_served_and_breaks_comes_first() -> None:
    names = [
        _name("cat", "fewer_outputs", ref="cat:1", kind="category", outputs=["net"]),
        _name("net", "moved", then="net:2"),
        _name("net@stable", "no_longer_resolved"),
        _name("h", "no_longer_resolved", served=False, kind="adapter"),
        _name("more", "still_served", ref="more:1"),
    ]
    way = [
        {"child": "owl:1", "parent": "net:1", "role": "target"},
        {"child": "more:1", "parent": "owl:1", "role": "clone"},
    ]
    found = _impact(
        names=names,
        dependents=[{"ref": "more:1", "kind": "network", "effect": "still_served", "why": way}],
        jobs=[{"id": "j1", "kind": "clone", "state": "queued", "pins": ["net:1"]}],
        cells=[{"generic": "animals", "category": "cat", "task": "is"}],
        delete={"refused": True, "refused_by": ["net@stable", "owl:1"]},
        left_out=7,
    )
    assert impact_lines(found) == [
        "net:1  network",
        "  served now, and would break:",
        "    cat -> cat:1  category  fewer outputs (net)",
        "    net -> net:1  network  moved to net:2",
        "    net@stable -> net:1  network  no longer resolved",
        "  names that would lead elsewhere or nowhere:",
        "    h -> net:1  adapter  no longer resolved",
        "  names that stay as they are:",
        "    more -> more:1  network  still served",
        "  made of it, and goes on:",
        "    more:1  network  still served  (target of owl:1, clone of more:1)",
        "  jobs that need it, and go on:",
        "    j1  clone  queued  (pins net:1)",
        "  cells:",
        "    animals  cat in is",
        "  and 7 more names or versions, which the service did not list",
        "  a delete is refused by:",
        "    net@stable",
        "    owl:1",
    ]


def test_what_nothing_names() -> None:
    assert impact_lines(_impact(yanked=True)) == ["net:1  network, yanked", "  nothing else names it"]


def test_long_sections_are_cut() -> None:
    lines = impact_lines(_impact(names=[_name(f"n{index:02}", "moved", then="n:2") for index in range(25)]))
    assert len(lines) == 23
    assert lines[-2:] == ["    n19 -> net:1  network  moved to n:2", "    ... and 5 more"]


def test_what_breaks_in_half_a_sentence() -> None:
    found = _impact(names=[_name(name, "moved") for name in "abcde"])
    assert breaks_text(found.broken[:2]) == "a, b"
    assert breaks_text(found.broken) == "a, b, c and 2 more"
