"""docs/module-file.md, the norm, against the code that follows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from graftery.module.check import read_document
from graftery.spec.limits import Limits
from graftery.spec.problems import PROBLEMS
from tests.support.hostile import HOSTILE

NORM = (Path(__file__).parents[3] / "docs/module-file.md").read_text()
CODES = {code for row in re.findall(r"^\|.*\|$", NORM, re.MULTILINE) for code in re.findall(r"`([a-z]+_[a-z_]+)`", row)}


def test_every_code_of_the_checks_is_in_the_norm() -> None:
    names = list(PROBLEMS)
    ours = set(names[: names.index("trace_unsupported")])
    assert ours == CODES


def test_every_code_of_a_check_has_a_hostile_file() -> None:
    assert CODES - {code for _, code in HOSTILE.values()} == {"verify_limit"}  # tests/attacks/test_child.py


def test_example_keeps_the_rules() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", NORM, re.DOTALL)
    manifest, graph = read_document(json.dumps(json.loads(example)), ("conv.weight",), Limits())
    assert manifest.kind == "category"
    assert len(graph.nodes) == 2


@pytest.mark.parametrize(
    ("cap", "text"),
    [
        (Limits().file_bytes, "4 GiB"),
        (Limits().header_bytes, "4 MiB"),
        (Limits().elements_per_value, "2^28"),
        (Limits().elements_per_sample, "2^30"),
        (Limits().flops_per_sample, "10^13"),
        (Limits().tensors, "8 000"),
        (Limits().nodes, "20 000"),
        (Limits().pieces, "1 024"),
        (Limits().cpu_s, "20 s"),
        (Limits().wall_s, "120 s"),
    ],
)
def test_caps_are_the_norm_s(cap: int, text: str) -> None:
    units = {"GiB": 2**30, "MiB": 2**20, "s": 1}
    number, unit = re.fullmatch(r"([\d^ ]+?)(?: (GiB|MiB|s))?", text).groups()  # type: ignore[union-attr]
    base, _, power = number.replace(" ", "").partition("^")
    assert cap == int(base) ** int(power or 1) * units.get(unit, 1)
    assert text in NORM
