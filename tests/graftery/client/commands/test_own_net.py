from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import save_file
from torch import nn

from graftery.client.commands.own_net import build, builder, example_of, meanings, trace_options
from graftery.spec.manifest import OutputMeaning, Preprocessing

SOURCE = """
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(3, 1)

def build():
    return Net()

ready = Net().train()

def wrong():
    return "a net"

def of(logits):
    return nn.Linear(3, logits)

def words(logits):
    return "a net"
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the owner's in the current folder."""
    (tmp_path / "the_owners_nets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "the_owners_nets"
    sys.modules.pop("the_owners_nets", None)


@pytest.mark.parametrize("attribute", ["build", "Net", "ready"])
def test_a_net_a_class_or_a_function(nets: str, attribute: str) -> None:
    net = build(f"{nets}:{attribute}", None)
    assert isinstance(net, nn.Linear)
    assert not net.training


def test_a_builder_takes_the_number_of_logits(nets: str) -> None:
    net = builder(f"{nets}:of")(7)
    assert isinstance(net, nn.Linear) and net.out_features == 7
    for attribute in ("build", "nn"):
        with pytest.raises(typer.BadParameter, match="takes the number of logits"):
            builder(f"{nets}:{attribute}")
    with pytest.raises(typer.BadParameter, match="gives a str"):
        builder(f"{nets}:words")(2)


def test_weights_are_loaded(nets: str, tmp_path: Path) -> None:
    weights = {"weight": torch.full((1, 3), 2.0), "bias": torch.zeros(1)}
    save_file(weights, tmp_path / "w.safetensors")
    net = build(f"{nets}:build", tmp_path / "w.safetensors")
    torch.testing.assert_close(dict(net.state_dict()), weights)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("the_owners_nets", "is written package.module:function"),
        ("the_owners_nets:nothing", "no attribute 'nothing'"),
        ("no_such_module:build", "No module named 'no_such_module'"),
        ("the_owners_nets:wrong", "gives a str, not a torch.nn.Module"),
    ],
)
def test_what_is_no_net_is_wrong_usage(nets: str, place: str, text: str) -> None:
    with pytest.raises(typer.BadParameter, match=text):
        build(place, None)


def test_weights_that_do_not_fit_or_are_a_pickle(nets: str, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(typer.BadParameter, match=r"do not fit the net.*size mismatch"):
        build(f"{nets}:build", tmp_path / "w.safetensors")
    torch.save({}, tmp_path / "w.pt")
    with pytest.raises(typer.BadParameter, match="is no safetensors file"):
        build(f"{nets}:build", tmp_path / "w.pt")


def test_an_example_is_a_shape_or_a_file(tmp_path: Path) -> None:
    assert example_of("3x8x4").shape == (2, 3, 8, 4)
    torch.testing.assert_close(example_of("5"), example_of("5"))
    np.save(tmp_path / "x.npy", np.ones((4, 3)))
    assert example_of(str(tmp_path / "x.npy")).shape == (4, 3)
    for text in ("3,8,8", "x8", "3xax8", ""):
        with pytest.raises(typer.BadParameter, match="3x32x32"):
            example_of(text)


def test_what_is_said_about_outputs() -> None:
    assert meanings({}, {}) is None
    assert meanings({"is": "classification", "depth": "regression"}, {"is": "no,yes"}) == {
        "is": OutputMeaning(semantics="classification", class_names=("no", "yes")),
        "depth": OutputMeaning(semantics="regression"),
    }
    with pytest.raises(typer.BadParameter, match="--outputs does not"):
        meanings({}, {"is": "no,yes"})
    with pytest.raises(typer.BadParameter, match=r"--outputs.*semantics"):
        meanings({"is": "classified"}, {})


def test_trace_options_hold_what_was_given() -> None:
    assert trace_options({}, {}, None, None) == {}
    said = {"mean": [0.5], "std": [0.5]}
    options = trace_options({"is": "classification"}, {}, said, "MIT")
    assert options["preprocessing"] == Preprocessing(mean=(0.5,), std=(0.5,))
    assert options["licence"] == "MIT"
    with pytest.raises(typer.BadParameter, match="--preprocessing"):
        trace_options({}, {}, {"means": [0.5]}, None)
