from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from graftery.errors import ModuleFileError
from graftery.module import ModuleFile, load, trace
from tests.support.corpus import CORPUS, made


@pytest.fixture(scope="module")
def file() -> ModuleFile:
    torch.manual_seed(0)
    return trace(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), torch.zeros(2, 3, 8, 8), kind="category"
    )


def test_load_gives_back_what_was_saved(file: ModuleFile, tmp_path: Path) -> None:
    digest = file.save(tmp_path / "a")
    again = load(tmp_path / "a")
    assert again.manifest == file.manifest
    assert again.graph == file.graph
    for held, wanted in ((again.weights, file.weights), (again.extras, file.extras)):
        assert held.keys() == wanted.keys()
        assert all(torch.equal(held[name], wanted[name]) for name in wanted)
    assert again.save(tmp_path / "b") == digest


def test_content_digest_is_of_graph_and_weights(file: ModuleFile, tmp_path: Path) -> None:
    digest = file.content_digest
    file.save(tmp_path / "a")
    assert load(tmp_path / "a").content_digest == digest
    described = replace(file, manifest=file.manifest.model_copy(update={"description": "other"}), extras={})
    assert described.content_digest == digest
    changed = {**file.weights, "0.bias": file.weights["0.bias"] + 1e-3}
    assert replace(file, weights=changed).content_digest != digest


def test_a_description_changes_the_file_s_digest(file: ModuleFile, tmp_path: Path) -> None:
    described = replace(file, manifest=file.manifest.model_copy(update={"description": "other"}))
    assert described.save(tmp_path / "a") != file.save(tmp_path / "b")


def test_net_is_in_eval_mode_and_has_no_parameters(file: ModuleFile) -> None:
    net = file.net()
    assert not net.training
    assert not list(net.parameters())
    assert all(not buffer.requires_grad for buffer in net.buffers())
    assert isinstance(net, torch.fx.GraphModule)


def test_names_from_the_file_are_not_in_the_code(file: ModuleFile) -> None:
    code = trace(made("two"), torch.zeros(CORPUS["two"].shape)).net().code
    assert "trunk" not in code
    assert "is_cat" not in code
    assert "cat" not in code
    assert "0.weight" not in file.net().code


def test_net_moves_to_another_dtype_and_can_be_differentiated(file: ModuleFile) -> None:
    net = file.net().double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None
    assert file.weights["0.weight"].dtype is torch.float32


def test_half_precision_weights_and_scalars_are_held(file: ModuleFile, tmp_path: Path) -> None:
    extras = {"sketch.count": torch.tensor(7), "sketch.half": torch.ones(3, dtype=torch.bfloat16)}
    replace(file, extras=extras).save(tmp_path / "a")
    again = load(tmp_path / "a").extras
    assert again["sketch.count"].shape == ()
    assert again["sketch.half"].dtype is torch.bfloat16


def test_a_file_that_shrinks_while_it_is_read_is_refused(
    file: ModuleFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import graftery.module.file as subject

    path = tmp_path / "a"
    file.save(path)
    original = subject.read_document

    def shrink(*args: object) -> object:
        path.write_bytes(path.read_bytes()[:-200])
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(subject, "read_document", shrink)
    with pytest.raises(ModuleFileError) as caught:
        load(path)
    assert caught.value.code == "file_truncated"


def test_a_small_file_loads_in_milliseconds(tmp_path: Path) -> None:
    trace(made("resnet"), torch.zeros(CORPUS["resnet"].shape)).save(tmp_path / "a")
    best = min(_seconds(tmp_path / "a") for _ in range(20))
    assert best < 0.02


def _seconds(path: Path) -> float:
    start = time.perf_counter()
    load(path)
    return time.perf_counter() - start
