from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.data.streams import generator
from graftery.nn.adapters import make_adapter
from graftery.spec.recipes import AdapterRecipe
from graftery.transplant.opgraph import Statistics, batch_norm_mismatch, batch_norms, is_op_graph, op_graph
from tests.support.transplants import image_category, image_files, image_task


def test_a_module_files_net_is_an_op_graph_already() -> None:
    net = image_files()[0].net()
    assert is_op_graph(net)
    assert op_graph(net, torch.randn(2, 1, 8, 8)) is net
    assert len(batch_norms(net)) == 1


def test_a_net_becomes_a_graph_that_computes_the_same_at_any_batch() -> None:
    net = image_task()
    graph = op_graph(net, torch.rand(2, 4, 4, 4))
    assert not is_op_graph(net)
    assert is_op_graph(graph)
    x = torch.rand(5, 4, 4, 4)
    assert torch.equal(graph(x), net(x))


def test_the_graph_shares_the_nets_parameters() -> None:
    h = make_adapter((4, 4, 4), (4, 4, 4), AdapterRecipe(layers=2), generator(0, "a"))
    x = torch.rand(3, 4, 4, 4)
    graph = op_graph(h, x)
    with torch.no_grad():
        for parameter in h.parameters():
            parameter.add_(0.3)
    assert torch.equal(graph(x), h(x))
    graph(x).sum().backward()
    assert all(parameter.grad is not None for parameter in h.parameters())


def test_a_batch_with_the_stored_statistics_mismatches_by_nothing() -> None:
    x = torch.randn(64, 3, 4, 4)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    assert float(batch_norm_mismatch(x, mean, var, 1e-5)) == pytest.approx(0, abs=1e-9)
    assert float(batch_norm_mismatch(x, mean + 2 * var.sqrt(), var, 0.0)) == pytest.approx(4, rel=1e-4)
    assert float(batch_norm_mismatch(x, mean, var * torch.e, 0.0)) == pytest.approx(1, rel=1e-4)
    vectors = torch.randn(64, 3)
    assert float(batch_norm_mismatch(vectors, vectors.mean(0), vectors.var(0, correction=0), 0.0)) < 1e-9


def test_statistics_are_read_at_every_batch_norm_and_the_output_stays() -> None:
    net = nn.Sequential(image_category(), image_task())
    x = torch.randn(16, 1, 8, 8)
    statistics = Statistics(op_graph(net, x))
    assert torch.equal(statistics.run(x), net(x))
    below = nn.Sequential(*list(net[0].children())[:1])(x)
    norm = net[0][1]
    wanted = [batch_norm_mismatch(below, norm.running_mean, norm.running_var, norm.eps)]
    assert len(statistics.mismatches) == 2
    assert torch.allclose(statistics.mismatches[0], wanted[0])
