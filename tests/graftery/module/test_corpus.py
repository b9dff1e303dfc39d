"""Common nets survive the trip into a file and back: outputs, gradients, gradients of gradients, and the cut."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftery.errors import CutRefused, TraceRefused
from graftery.module import ModuleFile, cut, trace, verify
from graftery.module.derivatives import Derivatives, derivatives, seeded
from tests.support.corpus import CORPUS, made

# What cannot be cut at a layer, with what else it uses.
ENTANGLED = {
    "unet": ("down2", "also uses the output of the layer 'down1'"),
    "fcn": ("backbone", "also uses the size of the net's input"),
    "written_gru": ("state", "also uses v1, from aten.unbind.int"),
    "resnet": ("layer2.0.bn2", "also uses the output of the layer 'layer1'"),
    "densenet": ("block1.0.norm1", "also uses the output of the layer 'stem'"),
}


@cache
def traced(name: str) -> ModuleFile:
    return trace(made(name), torch.zeros(CORPUS[name].shape))


def _close(found: Derivatives, wanted: Derivatives) -> None:
    for name, y in wanted.y.items():
        torch.testing.assert_close(found.y[name], y, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.gradient, wanted.gradient, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(found.second, wanted.second, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CORPUS)
def test_file_is_the_net(name: str, tmp_path: Path) -> None:
    """y, dy/dx and the gradient of that, at a batch size that the tracer has not tried, through a saved file."""
    file = traced(name)
    file.save(tmp_path / "net.safetensors")
    loaded = ModuleFile.load(tmp_path / "net.safetensors")
    names = tuple(file.graph.outputs)
    x = seeded((4, *CORPUS[name].shape[1:]), 9)
    # The operator behind nn.Hardsigmoid has no second derivative; the file's form of it has.
    twice = name != "mobilenetv3"
    wanted = derivatives(made(name), x, names, twice=twice)
    _close(derivatives(file.net(), x, names, twice=twice), wanted)
    values = loaded.net()(x)
    found = {names[0]: values} if isinstance(values, Tensor) else values
    assert found.keys() == wanted.y.keys()
    for output, y in wanted.y.items():
        torch.testing.assert_close(found[output].detach(), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CORPUS)
def test_file_passes_the_service_s_checks(name: str, tmp_path: Path) -> None:
    file = traced(name)
    file.save(tmp_path / "net.safetensors")
    facts = verify(tmp_path / "net.safetensors")
    assert facts.content_digest == file.content_digest
    assert facts.parameters == sum(weight.numel() for weight in file.weights.values())
    assert facts.flops_per_sample > 0


@pytest.mark.parametrize("name", CORPUS)
def test_height_and_width_are_free_where_the_net_allows_it(name: str) -> None:
    case, file = CORPUS[name], traced(name)
    assert (file.graph.input.shape[-2:] == ("H", "W")) == case.free
    if case.free:
        x = seeded((3, 3, case.shape[2] + 11, case.shape[3] + 4), 3)
        wanted, found = made(name)(x), file.net()(x)
        for ours, theirs in zip(found.values(), wanted.values(), strict=True) if name == "two" else [(found, wanted)]:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, case in CORPUS.items() if case.cut])
def test_cut_parts_compose_to_the_whole(name: str, tmp_path: Path) -> None:
    file, layer = traced(name), CORPUS[name].cut
    assert layer is not None
    category, tasks = cut(file, layer)
    assert category.manifest.outputs.keys() == {"features"}
    assert tasks.keys() == file.graph.outputs.keys()
    x = seeded((3, *CORPUS[name].shape[1:]), 5)
    whole = file.net()(x)
    for output, task in tasks.items():
        wanted = whole if isinstance(whole, Tensor) else whole[output]
        torch.testing.assert_close(task.net()(category.net()(x)), wanted, rtol=1e-6, atol=1e-6)
        task.save(tmp_path / f"{output}.safetensors")
        assert verify(tmp_path / f"{output}.safetensors").input.shape == category.manifest.outputs["features"].shape
    category.save(tmp_path / "features.safetensors")
    verify(tmp_path / "features.safetensors")


@pytest.mark.parametrize("name", ENTANGLED)
def test_cut_that_does_not_separate_says_what_else_is_used(name: str) -> None:
    layer, what = ENTANGLED[name]
    with pytest.raises(CutRefused, match=what) as caught:
        cut(traced(name), layer)
    assert caught.value.code == "cut_not_separating"


class Calls(nn.Module):
    """A net out of one function and the parts that it uses."""

    def __init__(self, function: object, **parts: nn.Module | nn.Parameter | nn.Buffer) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)  # type: ignore[operator]


def _branch(net: nn.Module, x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


# docs/module-file.md lists these; the operator or the reason is in the message.
REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "gru": (Calls(lambda net, x: net.gru(x)[0], gru=nn.GRU(4, 8, batch_first=True)), (2, 5, 4), "layer gru: aten.gru.input"),
    "lstm": (Calls(lambda net, x: net.lstm(x)[0], lstm=nn.LSTM(4, 8, batch_first=True)), (2, 5, 4), "layer lstm: aten.lstm.input"),
    "rnn": (Calls(lambda net, x: net.rnn(x)[0], rnn=nn.RNN(4, 8, batch_first=True)), (2, 5, 4), "layer rnn: aten.rnn_tanh.input"),
    "batch_norm_of_the_batch": (
        nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), (2, 3, 8, 8), "layer 0: aten.batch_norm.default"
    ),
    "dropout_in_eval": (Calls(lambda net, x: F.dropout(x, 0.5, True)), (2, 4), "aten.dropout.default drops units"),
    "noise": (Calls(lambda net, x: x + torch.rand_like(x)), (2, 4), "aten.rand_like.default"),
    "rrelu": (nn.Sequential(nn.RReLU()), (2, 4), "layer 0: aten.rrelu.default"),
    "sort": (Calls(lambda net, x: x.sort(1)[0]), (2, 4), "aten.sort.default"),
    "grid_sample": (
        Calls(lambda net, x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)), (2, 3, 8, 8),
        "aten.grid_sampler.default",
    ),
    "branch_on_values": (Calls(_branch), (2, 4), "torch.export refuses the net"),
    "fixed_batch": (Calls(lambda net, x: x.reshape(2, -1)), (2, 4), "torch.export refuses the net"),
    "weight_changed": (Calls(lambda net, x: x + net.count.add_(1), count=nn.Buffer(torch.zeros(1))), (2, 4), "changes the weight count"),
    "view_changed": (Calls(lambda net, x: _view_changed(x.relu())), (2, 4), "still sees as a view"),
    "positions_from_the_input": (
        Calls(lambda net, x: net.table[(x[:, 0] > 0).long()], table=nn.Buffer(torch.randn(2, 3))), (2, 4),
        "aten.index.Tensor: argument 'indices' depends on the input",
    ),
    "token_ids": (Calls(lambda net, x: net.e(x.long().abs()), e=nn.Embedding(9, 4)), (2, 4), "aten.embedding.default"),
    "no_tensor": (Calls(lambda net, x: {"a": x, "b": 3}), (2, 4), "is no tensor"),
    "constant": (Calls(lambda net, x: torch.ones(2, 2)), (2, 4), "dimension 0 is not the batch"),
    "complex": (Calls(lambda net, x: torch.fft.rfft(x).abs()), (2, 4), "aten.fft_rfft.default"),
}  # fmt: skip


def _view_changed(y: Tensor) -> Tensor:
    y[:, 0].add_(1)
    return y


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_held_is_refused_by_name(name: str) -> None:
    net, shape, what = REFUSED[name]
    with pytest.raises(TraceRefused) as caught:
        trace(net, torch.zeros(shape))
    assert what in caught.value.message
    assert caught.value.code == "trace_unsupported"
