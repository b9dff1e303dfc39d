from __future__ import annotations

from typing import Any

from benchmarks.serving.goals import judged
from benchmarks.serving.report import page


def _run(per_s: float, p99_ms: float = 10.0, cpu_ms: float = 1.0) -> dict[str, Any]:
    return {
        "per_s": per_s,
        "p50_ms": 5.0,
        "p95_ms": 8.0,
        "p99_ms": p99_ms,
        "cpu_ms": cpu_ms,
        "rate": per_s,
        "unanswered": 0,
        "answered": 100,
    }


def _known() -> dict[str, Any]:
    pair = {"ours": _run(300.0), "peer": _run(100.0, 30.0)}
    slow = {"ours": _run(300.0), "peer": _run(50.0)}
    contest = {
        "rounds": [{"ray/torch": slow, "plain/onnx": pair}] * 3,
        "tails": [{"plain/onnx": _run(70.0), "ours": _run(210.0), "ours at the best peer's load": _run(70.0, 5.0)}],
        "screened": [{"peer": "plain/onnx", "setting": "in the event loop", **_run(99.0)}],
        "chosen": {"plain/onnx": "in the event loop"},
        "failed": {"bentoml/onnx: no batching": "ended | early"},
        "memory": {"ours": {"pss_mib": 100.0}, "plain/onnx": {"pss_mib": 150.0}, "ray/torch": {"pss_mib": 900.0}},
    }
    both = {"busy": _run(1.0, cpu_ms=0.5), "easy": _run(1.0, cpu_ms=0.9)}
    more = {"busy": _run(1.0, cpu_ms=1.1), "easy": _run(1.0, cpu_ms=0.7)}
    cells = {
        "json32": contest,
        "mixed8": {**contest, "alone": [{"one": _run(100.0), "mixed": _run(81.0)}]},
        "overhead": {
            "forward": {"cpu_ms": 0.1},
            "rounds": [{"peer": "plain/torch", "ours": both, "theirs": more}],
        },
        "jpeg224": {"reason": "ours: 400 BYTES"},
        "family": {
            "networks": 200,
            "weights_mib": 100.0,
            "empty": {"pss_mib": 50.0},
            "full": {"pss_mib": 165.0},
        },
    }
    machine = {"cores": 2, "model": "A chip", "processor": "x86_64", "kernel": "6", "load": [0.1, 0.1, 0.1]}
    versions = {"plain": {"fastapi": "1", "torch": "2"}}
    return {
        "cells": cells,
        "machine": machine,
        "versions": versions,
        "left_out": {"ray": "no wheel"},
        "command": "make bench-serving",
    }


def test_goals_are_judged_against_the_best_peer() -> None:
    found = {goal.name: goal for goal in judged(_known()["cells"])}
    throughput = found["1. 3x32x32 in JSON: throughput over the best peer's"]
    assert throughput.met
    assert throughput.figure.startswith("3 (3 to 3)")
    assert "plain/onnx" in throughput.note
    assert found["3. CPU outside the forward pass, saturated, over the least peer's"].met
    assert found["3. CPU outside the forward pass, 40 requests/s, over the least peer's"].met is False
    assert found["4. Eight categories over one task module, over one category"].met
    assert found["4. Its memory (PSS), over that peer's"].met is False
    assert found["8. Memory of 200 networks over 20 modules, over that of their weights"].met
    assert found["2. 3x224x224 as JPEG: throughput over the best peer's"].note == "ours: 400 BYTES"


def test_the_page_has_goals_settings_and_what_was_left_out() -> None:
    text = page(_known())
    assert (
        "| 2. 3x224x224 as JPEG: throughput over the best peer's | ≥ 1 | - | not measured | ours: 400 BYTES |" in text
    )
    assert "ended / early" in text
    assert "in the event loop *" in text
    assert "- ray was left out: no wheel" in text
    assert "fastapi 1" in text
    assert "A chip" in text
