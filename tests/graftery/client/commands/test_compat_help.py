"""The examples of `graftery compat ... --help`, run in the order in which they stand."""

from __future__ import annotations

import inspect
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graftery.client.cli import COMPAT, run


class _Net(nn.Module):
    """[N, 3, 32, 32] to logits."""

    def __init__(self, logits: int) -> None:
        super().__init__()
        self.layer2 = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 6, 1), nn.ReLU())
        self.fc = nn.Linear(96, logits)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.layer2(x).flatten(1))
        return logits


def _colours(path: Path, count: int, seed: int, *, labels: bool = True) -> None:
    """Images of three classes, told apart by their colour."""
    y = np.arange(count) % 3
    x = 0.1 * np.random.default_rng(seed).standard_normal((count, 3, 32, 32)) + 2 * np.eye(3)[y][:, :, None, None]
    np.savez(path, x=x.astype("float32"), **({"y": y} if labels else {}))


def _examples() -> list[list[str]]:
    found = []
    for verb in COMPAT.values():
        text = (inspect.getdoc(verb) or "").split("Examples:")[1].replace("\\\n", " ")
        found += [shlex.split(line)[1:] for line in text.splitlines() if line.strip()]
    return found


@pytest.mark.slow
def test_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    package, nets = ModuleType("mypackage"), ModuleType("mypackage.nets")
    nets.build = _Net  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mypackage", package)
    monkeypatch.setitem(sys.modules, "mypackage.nets", nets)
    monkeypatch.chdir(tmp_path)
    for at, name in enumerate(("animals", "street")):
        _colours(tmp_path / f"{name}.npz", 96, at)
        _colours(tmp_path / f"{name}-test.npz", 30, 10 + at)
    _colours(tmp_path / "night.npz", 30, 20, labels=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for example in _examples():
            assert run(example) == 0, (example, capsys.readouterr().err)
    finally:
        torch.set_num_threads(before)
    assert len(_examples()) >= len(COMPAT)
