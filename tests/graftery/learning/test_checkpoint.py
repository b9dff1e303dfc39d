from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from graftery.errors import RecipeRefused
from graftery.transplant import Checkpoint


def test_a_checkpoint_survives_the_disk(tmp_path: Path) -> None:
    before = Checkpoint(7, {"value.w": torch.randn(2, 3), "adam.step.w": torch.tensor(7.0)}, "train", "abc")
    before.save(tmp_path / "c")
    after = Checkpoint.load(tmp_path / "c")
    assert (after.step, after.phase, after.fingerprint) == (7, "train", "abc")
    assert after.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(after.tensors[name], value) for name, value in before.tensors.items())


def test_a_write_that_breaks_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Checkpoint(1, {"x": torch.zeros(2)}, "train").save(tmp_path / "c")

    def broken(_: object, path: Path, *__: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("graftery.learning.checkpoint.save_file", broken)
    with pytest.raises(KeyboardInterrupt):
        Checkpoint(2, {"x": torch.ones(2)}, "train").save(tmp_path / "c")
    assert Checkpoint.load(tmp_path / "c").step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    save_file({"x": torch.zeros(1)}, tmp_path / "plain")
    whole = tmp_path / "whole"
    Checkpoint(1, {"x": torch.zeros(100)}, "train").save(whole)
    (tmp_path / "torn").write_bytes(whole.read_bytes()[:-50])
    for name, said in (("earlier", {"step": 1, "phase": "train", "fingerprint": ""}), ("odd", [1]), ("bare", {})):
        save_file({"x": torch.zeros(1)}, tmp_path / name, {"checkpoint": json.dumps(said)})
    for name in ("text", "plain", "torn", "earlier", "odd", "bare"):
        with pytest.raises(RecipeRefused, match="checkpoint"):
            Checkpoint.load(tmp_path / name)
