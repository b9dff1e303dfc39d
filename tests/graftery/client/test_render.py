from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from graftery.client.render import certificate_text, job_line, lineage_lines, manifest_entries, quantity, size, table
from graftery.spec.lineage import LineageOut
from graftery.spec.wire import JobOut
from tests.support import tones


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 "), (999, "999 "), (999.6, "1 k"), (1234, "1.23 k"), (5e6, "5 M"), (7e12, "7 T"), (2e16, "2e+04 T")],
)
def test_quantities_have_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert quantity(value) == text


def test_sizes() -> None:
    assert [size(0), size(2048), size(3 * 10**9)] == ["0 B", "2.05 kB", "3 GB"]


def test_a_table_is_text_without_trailing_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    table(("A", "B"), [("x" * 100, ""), ("[bold]", 3)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "x" * 100
    assert lines[2].split() == ["[bold]", "3"]


def test_lineage_unfolds_each_part_once() -> None:
    refs = {"n:1": "network", "f:1": "category", "g:1": "task", "t:1": "teacher", "s:1": "samples"}
    nodes: list[dict[str, Any]] = [{"ref": ref, "kind": kind, "digest": "d"} for ref, kind in refs.items()]
    pairs = [("n:1", "f:1", "category"), ("n:1", "g:1", "task"), ("f:1", "t:1", "teacher"), ("g:1", "t:1", "teacher")]
    edges = [
        {"child": child, "parent": parent, "role": role} for child, parent, role in [*pairs, ("t:1", "s:1", "samples")]
    ]
    up = LineageOut.model_validate({"root": "n:1", "direction": "up", "nodes": nodes, "edges": edges})
    assert lineage_lines(up) == [
        "n:1  network",
        "  f:1  category (as category)",
        "    t:1  teacher (as teacher)",
        "      s:1  samples (as samples)",
        "  g:1  task (as task)",
        "    t:1  teacher (as teacher)  ...",
    ]
    down = LineageOut.model_validate({"root": "t:1", "direction": "down", "nodes": nodes, "edges": edges})
    assert lineage_lines(down)[1:3] == ["  f:1  category (as teacher)", "    n:1  network (as category)"]
    nodes[0] |= {"aliases": ["default", "stable"], "yanked": True}
    both = LineageOut.model_validate({"root": "f:1", "direction": "both", "nodes": nodes, "edges": edges})
    assert lineage_lines(both) == [
        "f:1  category",
        "  made from:",
        "    t:1  teacher (as teacher)",
        "      s:1  samples (as samples)",
        "  made of it:",
        "    n:1  network (as category)  @default @stable  yanked",
    ]
    alone = LineageOut.model_validate({"root": "n:1", "direction": "both", "nodes": nodes[:1], "edges": []})
    assert lineage_lines(alone) == ["n:1  network  @default @stable  yanked"]


def test_a_job_in_one_line() -> None:
    def job(**fields: object) -> JobOut:
        base = {"id": "j", "kind": "transplant", "created_at": datetime.now(UTC), "request": {}}
        return JobOut.model_validate(base | fields)

    progress = {"phase": "train", "step": 3, "steps": 9, "loss": 0.2}
    assert job_line(job(state="running", progress=progress)) == "j  transplant  running  train 3/9"
    assert job_line(job(state="running", cancel_requested=True)) == "j  transplant  running, asked to end"
    assert job_line(job(state="succeeded", progress=progress, result={"network": "n:1"})).endswith("succeeded  n:1")
    assert "diverged: NaN" in job_line(job(state="failed", error={"code": "diverged", "message": "NaN"}))


def test_a_certificate_in_a_sentence() -> None:
    quiet = {"networks": 0, "identical": 0, "within_tolerance": 0, "different": [], "first_seen": 0, "left_out": 0}
    assert certificate_text(quiet) == "no other network shares a module with it"
    usual = {**quiet, "networks": 4, "identical": 4}
    assert certificate_text(usual) == "4 of 4 networks that share a module answer as before, to the bit"
    changed = [{"network": "old:1", "reason": "the file is damaged"}]
    loud = {**usual, "identical": 2, "within_tolerance": 1, "different": changed, "left_out": 7}
    assert certificate_text(loud) == (
        "2 of 4 networks that share a module answer as before, to the bit; 1 within the tolerance of another device "
        "class; 7 more were not asked; NOT AS BEFORE: old:1 (the file is damaged)"
    )


def test_what_the_members_of_a_group_agree_on() -> None:
    said = dict(manifest_entries(tones.group().manifest.model_dump(exclude_none=True)))
    assert (said["methods"], said["shared heads"]) == ("RP, DCC, IIW", "common, rotation")
    assert (said["common classes"], said["images"]) == ("bright, dark", "float32 [N, 1, 8, 8]")
    young = dict(manifest_entries(tones.group(trained=False).manifest.model_dump(exclude_none=True)))
    assert young["shared heads"] == "not trained yet"
    assert "methods" not in dict(manifest_entries(tones.member().head.manifest.model_dump(exclude_none=True)))
