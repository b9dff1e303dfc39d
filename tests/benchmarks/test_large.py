from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.transplant import large

RESULT: dict[str, Any] = {
    "command": "make bench-large",
    "batch": 2,
    "machine": {"accelerator": None, "cores": 2, "processor": "x", "python": "3", "torch": "2", "threads": 1},
    "nets": {
        "VGG-16": {
            "seconds": {"kept": [[1.0, 2.0], [1.0, 2.5], [0.5, 2.0]], "made in every step": [[1.0, 4.0]]},
            "peak_mib": {"direct-learn": 100.0, "back-distillation": 150.0},
        }
    },
}


@pytest.mark.parametrize(
    "name, parameters, features", [("VGG-16", 138_357_544, (256, 28, 28)), ("ResNet-50", 25_557_032, (512, 28, 28))]
)
def test_the_nets_are_those_of_the_papers(name: str, parameters: int, features: tuple[int, ...]) -> None:
    with torch.device("meta"):
        category, task = large.NETS[name]()
        net = task()
        x = category(torch.empty(2, 3, large.SIDE, large.SIDE))
        assert x.shape == (2, *features)
        assert net(x).shape == (2, large.CLASSES)
    assert sum(p.numel() for part in (category, net) for p in part.parameters()) == parameters


def test_the_page_says_where_it_was_measured_and_whether_the_goal_was_met() -> None:
    page = large.document(RESULT)
    assert "Not measured on CUDA" in page
    assert "| VGG-16 | kept | 1.00 (1.00 to 2.00) | 0.50 (0.40 to 0.50) | 2.50 (2.00 to 4.00) | met |" in page
    assert "| 4.00 (4.00 to 4.00) | missed |" in page
    assert "| VGG-16 | 100 | 150 | 1.50 |" in page
    on_gpu = {**RESULT, "machine": {**RESULT["machine"], "accelerator": "A GPU"}}
    assert "Not measured" not in large.document(on_gpu)
    assert "A GPU" in large.document(on_gpu)


def test_memory_that_is_measured_again_leaves_the_seconds_their_command_and_machine() -> None:
    later = {**RESULT, "command": "make bench-large ARGS='--memory'", "batch": 4}
    later["machine"] = {**RESULT["machine"], "torch": "3"}
    how = {name: later[name] for name in ("command", "batch", "machine")}
    result = {**RESULT, **large.together(how, RESULT)}
    assert (result["command"], result["batch"], result["machine"]["torch"]) == ("make bench-large", 2, "2")
    page = large.document(result)
    assert "Written by `make bench-large`;" in page and "torch 2." in page
    assert "by `make bench-large ARGS='--memory'`, batch 4" in page and "torch 3;" in page
    again = {**how, "command": "make bench-large ARGS='--memory --batch 4'"}
    assert large.together(again, result)["command"] == "make bench-large"
    assert large.together(how, {}) == how


def test_each_way_takes_steps_that_move_its_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "SIDE", 32)
    torch.manual_seed(0)
    category, task = large.resnet50()
    nets = large.Nets(*(net.eval() for net in (category, task(), task())))
    for objectives, features in zip(large.OBJECTIVES, large.FEATURES, strict=True):
        way = large.Stepper(nets, objectives, features, 2)
        before = [value.clone() for value in way.adapter.parameters()]
        assert way(0) >= 0
        assert not all(torch.equal(a, b) for a, b in zip(before, way.adapter.parameters(), strict=True))
