"""Facts and messages of the checks that run the net; their codes are the business of tests/attacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from graftery.errors import ModuleFileError
from graftery.module import ModuleFile, trace, verify
from graftery.module.shapes import survey
from graftery.module.verification import check_values, examine
from graftery.spec.limits import Limits
from tests.support import clones


@pytest.fixture(scope="module")
def file() -> ModuleFile:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.MaxPool2d(2))
    return trace(net, torch.zeros(2, 3, 8, 8), sketch={"count": torch.tensor(1.0)})


def test_facts(file: ModuleFile, tmp_path: Path) -> None:
    file.save(tmp_path / "a")
    facts = verify(tmp_path / "a")
    assert facts.input.shape == ("N", 3, "H", "W")
    assert facts.outputs["output"].shape == ("N", 8, "H", "W")
    assert facts.parameters == 8 * 3 * 9 + 8 + 4 * 8
    assert facts.flops_per_sample == 2 * 8 * 3 * 9 * 8 * 8
    assert facts.layers == ("0", "1", "2")
    assert facts.has_batch_norm
    assert facts.has_sketch


def test_a_wrong_weight_is_found_by_the_probe(file: ModuleFile) -> None:
    weights = {**file.weights, "0.weight": file.weights["0.weight"] * 1.05}
    with pytest.raises(ModuleFileError, match=r"output output at probe.x is not probe.y: off by") as caught:
        examine(replace(file, weights=weights), Limits())
    assert caught.value.code == "probe_mismatch"


def test_rounding_is_not_taken_for_a_wrong_weight(file: ModuleFile) -> None:
    weights = {**file.weights, "0.weight": file.weights["0.weight"] * (1 + 1e-5)}
    examine(replace(file, weights=weights), Limits())


def test_shape_refusals_name_the_node_the_layer_and_both_sides(file: ModuleFile) -> None:
    weights = {**file.weights, "0.weight": torch.zeros(8, 4, 3, 3)}
    with pytest.raises(ModuleFileError) as caught:
        examine(replace(file, weights=weights), Limits())
    assert caught.value.message.startswith("node v0 (0) aten.conv2d.default: ")
    assert "4 channels" in caught.value.message
    assert "3 channels" in caught.value.message


def test_stated_shapes_are_compared(file: ModuleFile) -> None:
    output = file.manifest.outputs["output"].model_copy(update={"shape": ("N", 9, "H", "W")})
    manifest = file.manifest.model_copy(update={"outputs": {"output": output}})
    with pytest.raises(
        ModuleFileError, match=r"the manifest says float32 \[N, 9, H, W\], the graph gives float32 \[N, 8"
    ):
        examine(replace(file, manifest=manifest), Limits())


@pytest.mark.parametrize(
    "limits", [Limits(elements_per_value=100), Limits(elements_per_sample=100), Limits(flops_per_sample=100)]
)
def test_caps_on_work_are_the_caller_s(file: ModuleFile, limits: Limits) -> None:
    with pytest.raises(ModuleFileError) as caught:
        examine(file, limits)
    assert caught.value.code == "work_too_large"


def test_work_grows_with_the_sample_not_with_the_probe_s_batch(file: ModuleFile) -> None:
    small = survey(file.graph, file.weights, (2, 3, 8, 8), Limits())
    assert survey(file.graph, file.weights, (50, 3, 8, 8), Limits()).flops_per_sample == small.flops_per_sample
    assert survey(file.graph, file.weights, (2, 3, 16, 16), Limits()).flops_per_sample == 4 * small.flops_per_sample


def test_masks_may_hold_minus_infinity_and_weights_may_not() -> None:
    check_values("mask", torch.tensor([0.0, float("-inf")]))
    for values in ([1.0, float("-inf")], [0.0, float("inf")], [0.0, float("nan")]):
        with pytest.raises(ModuleFileError, match="tensor w holds"):
            check_values("w", torch.tensor(values))


def test_bad_values_are_found_anywhere_in_a_large_tensor() -> None:
    large = torch.zeros(2**22 + 10)
    check_values("w", large)
    large[-1] = float("nan")
    with pytest.raises(ModuleFileError):
        check_values("w", large)


def _clone(**old: torch.Tensor | None) -> ModuleFile:
    file = clones.made()
    extras = {**file.extras, **{f"clone.{name}": value for name, value in old.items()}}
    return replace(file, extras={name: value for name, value in extras.items() if value is not None})


def test_a_clone_passes() -> None:
    assert examine(_clone(), Limits()).outputs["is"].shape == ("N", 1)


@pytest.mark.parametrize(
    ("old", "code"),
    [
        ({"old": None}, "shapes_invalid"),
        ({"old": torch.zeros(2, 8)}, "shapes_invalid"),
        ({"old": torch.zeros(1)}, "shapes_invalid"),
        ({"old": torch.zeros(1, 0)}, "shapes_invalid"),
        ({"old": torch.zeros(1, 8, dtype=torch.int64)}, "shapes_invalid"),
        ({"old": torch.zeros(1, 8, dtype=torch.float64)}, "shapes_invalid"),
        ({"old": torch.full((1, 8), float("nan"))}, "weights_invalid"),
        ({"old": torch.full((1, 8), float("-inf"))}, "weights_invalid"),
        ({"new": torch.zeros(1, 8)}, "weight_unused"),
    ],
)
def test_what_a_clone_has_beside_its_weights(old: dict[str, torch.Tensor | None], code: str) -> None:
    with pytest.raises(ModuleFileError) as caught:
        examine(_clone(**old), Limits())
    assert caught.value.code == code


def test_only_a_clone_has_a_clones_tensors(file: ModuleFile) -> None:
    with pytest.raises(ModuleFileError, match=r"only a clone has tensors like clone\.old") as caught:
        examine(replace(file, extras={**file.extras, "clone.old": torch.zeros(1, 8)}), Limits())
    assert caught.value.code == "weight_unused"
