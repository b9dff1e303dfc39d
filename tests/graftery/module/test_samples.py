from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from graftery.errors import SamplesRefused
from graftery.module.samples import examine_samples, label_facts
from graftery.spec.limits import Limits
from graftery.spec.manifest import LabelFacts


@pytest.mark.parametrize(
    ("y", "found"),
    [
        (torch.tensor([2, 0, 2]), LabelFacts(least=0, greatest=2, whole=True, classes=(0, 2))),
        (torch.tensor([1.0, 0.0]), LabelFacts(least=0, greatest=1, whole=True, classes=(0, 1))),
        (torch.tensor([True, True]), LabelFacts(least=1, greatest=1, whole=True, classes=(1,))),
        (torch.tensor([[0, 255]], dtype=torch.uint8), LabelFacts(least=0, greatest=255, whole=True, classes=(0, 255))),
        (torch.tensor([0.5, 1]), LabelFacts(least=0.5, greatest=1, whole=False)),
        (torch.tensor([-1, 1]), LabelFacts(least=-1, greatest=1, whole=True)),
        (torch.tensor([0, 4096]), LabelFacts(least=0, greatest=4096, whole=True)),
        (torch.zeros(3, 0), None),
    ],
)
def test_what_labels_hold(y: torch.Tensor, found: LabelFacts | None) -> None:
    assert label_facts(y) == found


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.randint(0, 50, (40, 3), generator=torch.Generator().manual_seed(0))
    whole = label_facts(y)
    monkeypatch.setattr("graftery.module.samples._BLOCK", 7)
    assert label_facts(y) == whole


def test_a_set_is_examined_with_its_labels(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(3, 2), "y": torch.tensor([0, 1, 1])}, tmp_path / "s")
    found = examine_samples(tmp_path / "s", Limits())
    assert found.labels is not None
    assert found.labels.classes == (0, 1)
    save_file({"x": torch.zeros(3, 2)}, tmp_path / "s")
    assert examine_samples(tmp_path / "s", Limits()).labels is None


@pytest.mark.parametrize("name", ["x", "y"])
def test_nan_is_refused_by_name(name: str, tmp_path: Path) -> None:
    tensors = {"x": torch.zeros(3, 2), "y": torch.zeros(3)}
    tensors[name].view(-1)[1] = torch.nan
    save_file(tensors, tmp_path / "s")
    with pytest.raises(SamplesRefused, match=f"{name} holds NaN .leave out the samples") as caught:
        examine_samples(tmp_path / "s", Limits())
    assert caught.value.code == "samples_invalid"
