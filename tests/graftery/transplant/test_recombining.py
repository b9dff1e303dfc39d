from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graftery.compat.recombination import recombine
from graftery.data import SampleSet
from graftery.errors import Misfit, SamplesRefused
from graftery.module import ModuleFile, trace
from graftery.spec.limits import Limits
from graftery.spec.manifest import OutputMeaning
from graftery.transplant import evaluation, recombining
from graftery.transplant.recombining import recombination
from tests.support import files, tones

OURS, THEIRS = tones.member(), tones.member(scale=2.0, shift=0.15)


def test_it_is_a_cell_of_the_matrix() -> None:
    samples = tones.images(40, seed=1)
    found = recombination(OURS.extractor, THEIRS.head, samples, own=THEIRS.extractor)
    matrix = recombine(
        {"a": OURS.extractor, "b": THEIRS.extractor},
        {"a": OURS.head, "b": THEIRS.head},
        {"a": samples, "b": samples},
    )
    assert found["recombined"]["accuracy"] == float(matrix.raw[0, 1]) < 1
    assert found["own"]["accuracy"] == float(matrix.raw[1, 1])
    assert found["normalised"] == float(matrix.normalised[0, 1])
    assert found["chance"] == float(matrix.chance[1]) == 0.5
    assert recombination(OURS.extractor, THEIRS.head, samples, own=THEIRS.extractor) == found


def test_large_samples_go_through_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = tones.images(10)
    whole = recombination(OURS.extractor, OURS.head, samples, own=OURS.extractor)
    monkeypatch.setattr(evaluation, "BATCH_VALUES", 200)  # 3 samples of 64
    assert recombination(OURS.extractor, OURS.head, samples, own=OURS.extractor) == whole


def test_without_its_own_network_there_is_nothing_to_hold_it_against() -> None:
    found = recombination(OURS.extractor, OURS.head, tones.images(20))
    assert found["recombined"]["accuracy"] == 1.0
    assert (found["own"], found["normalised"], found["recombined_minus_own_interval"]) == (None, None, None)


def test_its_own_network_below_chance_is_nothing_to_hold_it_against() -> None:
    samples = tones.images(40, seed=1)
    assert samples.y is not None
    upside_down = SampleSet(samples.x, 1 - samples.y)
    found = recombination(OURS.extractor, THEIRS.head, upside_down, own=THEIRS.extractor)
    assert found["own"]["accuracy"] == 0 < found["recombined"]["accuracy"]
    assert found["normalised"] is None


def test_an_adapter_is_between() -> None:
    features = torch.zeros(2, 2, 8, 8)
    turned = trace(torch.nn.Conv2d(2, 2, 1, bias=False), features, kind="adapter")
    swap = {name: torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(2, 2, 1, 1) for name in turned.weights}
    found = recombination(OURS.extractor, OURS.head, tones.images(20), adapter=replace(turned, weights=swap))
    assert found["recombined"]["accuracy"] == 0.5  # all of them are dark then


def test_values_have_no_chance() -> None:
    meaning = {"size": OutputMeaning(semantics="regression")}
    head = trace(torch.nn.Flatten(), torch.zeros(2, 2, 8, 8), kind="task", outputs=meaning)
    found = recombination(OURS.extractor, head, SampleSet(torch.zeros(4, 1, 8, 8), torch.rand(4, 128)))
    assert (found["chance"], found["normalised"]) == (None, None)
    assert found["recombined"]["mse"] > 0


def test_samples_of_a_size_that_another_layer_does_not_take() -> None:
    category, _ = files.free_size_parts()
    head = trace(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 64, 2)), torch.zeros(2, 4, 8, 8), kind="task"
    )
    with pytest.raises(SamplesRefused, match="does not take"):
        recombination(category, head, SampleSet(torch.zeros(4, 1, 9, 9), torch.arange(4) % 2))


def test_parts_and_labels_that_do_not_fit() -> None:
    with pytest.raises(Misfit):
        recombination(OURS.extractor, files.parts()[1], tones.images(4))
    with pytest.raises(SamplesRefused):
        recombination(OURS.extractor, OURS.head, SampleSet(torch.zeros(4, 1, 8, 8), torch.arange(4)))
    with pytest.raises(SamplesRefused) as refused:
        recombination(OURS.extractor, OURS.head, SampleSet(torch.zeros(4, 1, 8, 8)))
    assert refused.value.code == "samples_missing"


def test_the_childs_action_is_the_same(tmp_path: Path) -> None:
    def saved(name: str, file: ModuleFile | SampleSet) -> str:
        file.save(tmp_path / name)
        return str(tmp_path / name)

    samples = tones.images(20, seed=1)
    named = {"task": THEIRS.head, "samples": samples, "own": THEIRS.extractor}
    request = {
        "path": saved("category", OURS.extractor),
        "files": {name: saved(name, file) for name, file in named.items()},
    }
    wanted = recombination(OURS.extractor, THEIRS.head, samples, own=THEIRS.extractor)
    assert recombining.answer(request, Limits()) == wanted
