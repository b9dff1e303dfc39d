"""Probes and their replay: to the bit on the same device class, within a tolerance elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graftery.errors import StoreError, WeightsRefused
from graftery.module import ModuleFile
from graftery.transplant import certificate, compose
from graftery.transplant.certificate import Probes, device_class, probe_inputs, record, replay
from tests.support import transplants as t


@pytest.fixture
def probes() -> Probes:
    f, _, g = t.image_files()
    return record(compose(f, None, g), probe_inputs(f))


def _flipped(file: ModuleFile, bit: int) -> ModuleFile:
    """The file with one bit of its last weight's first number the other way."""
    name = sorted(file.weights)[-1]
    weights = {**file.weights, name: file.weights[name].clone()}
    weights[name].view(-1).view(torch.int32)[0] ^= 1 << bit
    return replace(file, weights=weights)


def _elsewhere(probes: Probes) -> Probes:
    other = probes.device_class.model_copy(update={"model": "another processor"})
    return replace(probes, device_class=other)


def test_the_same_parts_give_the_same_bits(probes: Probes) -> None:
    f, _, g = t.image_files()
    again = replay(compose(f, None, g), probes)
    assert (again.compared, again.identical, again.same, again.reason) == ("bitwise", True, True, None)


def test_the_inputs_are_eight_rows_that_never_change() -> None:
    f = t.image_files()[0]
    assert probe_inputs(f).shape == (8, 1, 8, 8)
    assert torch.equal(probe_inputs(f), probe_inputs(f))
    assert probe_inputs(f).std() > 0.5


def test_large_inputs_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    f = t.image_files()[0]
    for limit, rows in ((3 * 64 * 4, 3), (1, 1)):
        monkeypatch.setattr(certificate, "MAX_BYTES", limit)
        assert len(probe_inputs(f)) == rows


def test_a_module_without_a_probe_is_refused() -> None:
    with pytest.raises(WeightsRefused) as caught:
        probe_inputs(replace(t.image_files()[0], extras={}))
    assert caught.value.code == "probe_mismatch"


@pytest.mark.parametrize("part", ["category", "task"])
def test_one_flipped_bit_is_seen(probes: Probes, part: str) -> None:
    """A low bit of one weight: far under any tolerance."""
    f, _, g = t.image_files()
    broken = compose(_flipped(f, 12), None, g) if part == "category" else compose(f, None, _flipped(g, 12))
    found = replay(broken, probes)
    assert found.compared == "bitwise"
    assert not found.same and not found.identical
    assert found.difference is not None and found.difference < 1e-3
    assert "differ by" in (found.reason or "")


def test_another_device_class_is_compared_with_a_tolerance(probes: Probes) -> None:
    f, _, g = t.image_files()
    same = replay(compose(f, None, g), _elsewhere(probes))
    assert (same.compared, same.identical, same.same) == ("tolerance", True, True)
    rounded = replay(compose(f, None, _flipped(g, 12)), _elsewhere(probes))
    assert (rounded.identical, rounded.same) == (False, True), "as rounding would differ"
    wrong = replay(compose(f, None, t.image_files()[1]), _elsewhere(probes))
    assert (wrong.compared, wrong.same) == ("tolerance", False)


def test_the_number_of_threads_is_part_of_the_device_class(probes: Probes) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert replay(compose(t.image_files()[0], None, t.image_files()[2]), probes).compared == "tolerance"
    finally:
        torch.set_num_threads(before)
    assert device_class().threads == before


def test_what_is_no_number_is_not_the_same(probes: Probes) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 1), float("nan"))

    for net in (Broken(), nn.Flatten()):
        found = replay(net, _elsewhere(probes))
        assert (found.same, found.difference) == (False, None)
        assert "no numbers" in (found.reason or "")


def test_several_outputs_keep_their_names(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"is": x.sum((1, 2, 3)), "was": x.mean((1, 2, 3))}

    made = record(Two(), torch.randn(3, 1, 2, 2))
    assert made.outputs.keys() == {"y.is", "y.was"}
    made.save(tmp_path / "probes")
    assert replay(Two(), Probes.load(tmp_path / "probes")).identical


def test_a_record_is_a_file_and_comes_back(probes: Probes, tmp_path: Path) -> None:
    probes.save(tmp_path / "one")
    probes.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    back = Probes.load(tmp_path / "one")
    assert torch.equal(back.x, probes.x) and torch.equal(back.outputs["y"], probes.outputs["y"])
    assert back.device_class == probes.device_class == device_class()


@pytest.mark.parametrize("what", ["text", "module", "version"])
def test_what_is_no_record_is_refused(
    what: str, probes: Probes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    if what == "text":
        path.write_text("no")
    elif what == "module":
        t.image_files()[0].save(path)
    else:
        monkeypatch.setattr(certificate, "FORMAT", "graftery.probes/0")
        probes.save(path)
        monkeypatch.undo()
    with pytest.raises(StoreError) as caught:
        Probes.load(path)
    assert caught.value.code == "store_corrupt"


def test_a_net_that_works_in_place_leaves_the_inputs(probes: Probes) -> None:
    x = torch.randn(2, 3)
    kept = x.clone()
    record(nn.Sequential(nn.ReLU(inplace=True)), x)
    assert torch.equal(x, kept)
