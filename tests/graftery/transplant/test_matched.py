from __future__ import annotations

import torch
from torch import nn

from graftery.spec.recipes import MATCHED_IMAGES, TransplantRecipe
from graftery.transplant.matched import matched_features
from graftery.transplant.opgraph import OwnStatistics, op_graph
from graftery.transplant.sources import Noise
from tests.support.transplants import PREPROCESSING, image_category, warmed

NOISE = Noise((1, 8, 8), PREPROCESSING, TransplantRecipe())


def _norm_last() -> nn.Module:
    """f whose features are a batch norm's outputs: mean and variance of a channel are the norm's bias and scale."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([0.5, 1.0, 2.0]))  # type: ignore[operator, union-attr]
        net[1].bias.copy_(torch.tensor([-1.0, 0.0, 3.0]))  # type: ignore[operator, union-attr]
    return warmed(net, torch.randn(16, 1, 8, 8))


def test_channels_come_out_as_in_training() -> None:
    net = _norm_last()
    x = 5 + 7 * torch.randn(32, 1, 8, 8)
    features = OwnStatistics(op_graph(net, x)).run(x)
    torch.testing.assert_close(features.mean((0, 2, 3)), torch.tensor([-1.0, 0.0, 3.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std((0, 2, 3)), torch.tensor([0.5, 1.0, 2.0]), atol=0, rtol=1e-2)
    with torch.no_grad():
        stored = net(x)
    assert float((stored - features).mean((0, 2, 3)).abs().max()) > 1


def test_nothing_that_is_stored_changes() -> None:
    net = image_category()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    matched_features(op_graph(net, torch.randn(2, 1, 8, 8)), NOISE, 4, "noise")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_few_features_have_the_statistics_of_many() -> None:
    graph = op_graph(image_category(), torch.randn(2, 1, 8, 8))
    few = matched_features(graph, NOISE, 3, "noise", 7)
    many = matched_features(graph, NOISE, MATCHED_IMAGES, "noise", 7)
    assert few.shape == (3, 4, 4, 4)
    assert torch.equal(few, many[:3])
    assert matched_features(graph, NOISE, 0, "noise").shape == (0, 4, 4, 4)


def test_without_batch_norm_it_is_the_noise_itself() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    inputs = NOISE(MATCHED_IMAGES, "noise", 1)
    found = matched_features(op_graph(net, inputs), NOISE, MATCHED_IMAGES, "noise", 1)
    torch.testing.assert_close(found, net(inputs))
