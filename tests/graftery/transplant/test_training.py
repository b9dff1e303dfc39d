"""The Jacobian term is real: closed forms, finite differences, and what is lost without it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from graftery.data.streams import generator
from graftery.learning.loop import Loop
from graftery.nn.adapters import Adapter, make_adapter
from graftery.spec.manifest import Semantics
from graftery.spec.recipes import AdapterRecipe, Objective, TransplantRecipe
from graftery.transplant.nets import Nets, differentiable_twice
from graftery.transplant.sources import Batch
from graftery.transplant.training import Linears, step_losses, train
from tests.support.transplants import (
    image_category,
    image_task,
    token_category,
    token_task,
    vector_category,
    vector_task,
)

WIDTH, OUTPUTS = 4, 3


def _linear_net(inputs: int, outputs: int, seed: int) -> nn.Linear:
    net = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(net.weight, generator=generator(seed, "weight"))
    return net


def _linear_nets(student_width: int) -> Nets:
    return Nets(nn.Identity(), _linear_net(student_width, OUTPUTS, 1), _linear_net(WIDTH, OUTPUTS, 2))


def _features(scale: float, *, dimensions: int = WIDTH) -> Callable[[int], Batch]:
    """Features that are zero but in their first dimensions."""

    def batch(step: int) -> Batch:
        x = scale * torch.randn(16, WIDTH, generator=generator(0, "features", step))
        return Batch(x * (torch.arange(WIDTH) < dimensions))

    return batch


def _trained(nets: Nets, width: int, batches: Callable[[int], Batch], **objectives: float) -> Adapter:
    recipe = TransplantRecipe(
        objectives=objectives,
        steps=600,
        learning_rate=0.05,
        adapter=AdapterRecipe(final_relu=False),  # type: ignore[arg-type]
    )
    h = make_adapter((WIDTH,), (width,), recipe.adapter, generator(0, "adapter"))
    train(nets, h, batches, recipe=recipe, semantics="regression", loop=Loop("train"))
    return h


def _composed(nets: Nets, h: Adapter) -> Tensor:
    """The matrix of gS(h(x))."""
    return (nets.task.weight @ h.layers[0].weight).detach()  # type: ignore[operator]


@pytest.mark.parametrize("width", [OUTPUTS, 5], ids=["square gS", "wide gS"])
def test_on_linear_nets_the_adapter_reaches_the_closed_form(width: int) -> None:
    """B W = A: for square B, W = B^-1 A. Features that are all zero tell nothing: only the gradients do."""
    nets = _linear_nets(width)
    assert nets.teacher is not None
    h = _trained(nets, width, _features(0.0), back_distillation=1.0)
    assert torch.allclose(_composed(nets, h), nets.teacher.weight, atol=1e-3)  # type: ignore[arg-type]
    if width == OUTPUTS:
        solution = torch.linalg.solve(nets.task.weight, nets.teacher.weight)  # type: ignore[arg-type]
        assert torch.allclose(h.layers[0].weight, solution, atol=1e-3)  # type: ignore[arg-type]


def test_without_the_jacobian_term_directions_that_no_feature_shows_are_not_learned() -> None:
    nets = _linear_nets(5)
    assert nets.teacher is not None
    wanted: Tensor = nets.teacher.weight  # type: ignore[assignment]
    without = _composed(nets, _trained(nets, 5, _features(1.0, dimensions=2), distillation=1.0))
    assert torch.allclose(without[:, :2], wanted[:, :2], atol=1e-2)
    assert float((without - wanted)[:, 2:].norm()) > 0.5
    with_it = _trained(nets, 5, _features(1.0, dimensions=2), distillation=1.0, back_distillation=1.0)
    assert torch.allclose(_composed(nets, with_it), wanted, atol=1e-2)


def test_the_pseudo_gradient_finds_the_closed_form_up_to_scale_and_the_spread_sets_the_scale() -> None:
    nets = _linear_nets(OUTPUTS)
    assert nets.teacher is not None
    h = _trained(nets, OUTPUTS, _features(1.0), pseudo_gradient=1.0)
    found, wanted = _composed(nets, h), nets.teacher.weight
    assert torch.allclose(found / found.norm(), wanted / wanted.norm(), atol=0.02)  # type: ignore[operator]
    assert float(found.norm() / wanted.norm()) == pytest.approx(1, abs=0.1)  # type: ignore[operator]


def _relu_head(seed: int) -> nn.Module:
    layers = _linear_net(6, 16, seed), _linear_net(16, 1, 100 + seed)
    for layer, stream in zip(layers, (seed, 100 + seed), strict=True):
        nn.init.uniform_(layer.bias, -0.3, 0.3, generator=generator(stream, "bias"))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1]).eval()


def _agreement(nets: Nets, h: nn.Module) -> float:
    """Correlation of student and teacher on fresh features."""
    x = torch.rand(400, 6, generator=generator(1, "fresh"))
    with torch.no_grad():
        outputs = [net(x).flatten() for net in (nn.Sequential(h, nets.task), nets.teacher)]  # type: ignore[misc]
    return float(torch.corrcoef(torch.stack(outputs))[0, 1])


@pytest.mark.parametrize("seed", [16, 34, 39])
def test_a_student_that_starts_as_the_opposite_comes_round(seed: int) -> None:
    nets = Nets(nn.Identity(), _relu_head(2 * seed), _relu_head(2 * seed + 1))
    recipe = TransplantRecipe(objectives={"pseudo_gradient": 1.0}, steps=300, learning_rate=0.01)
    h = make_adapter((6,), (6,), AdapterRecipe(final_relu=True), generator(0, "adapter"))
    assert _agreement(nets, h) < -0.2

    def batch(step: int) -> Batch:
        return Batch(torch.rand(32, 6, generator=generator(0, "features", step)))

    train(nets, h, batch, recipe=recipe, semantics="classification", loop=Loop("train"))
    assert _agreement(nets, h) > 0.6


def _image_case() -> tuple[Nets, Adapter, Tensor]:
    nets = Nets(image_category(), image_task(outputs=3, seed=1), image_task(outputs=3))
    h = make_adapter((4, 4, 4), (4, 4, 4), AdapterRecipe(kernel=1, final_relu=False), generator(0, "a"))
    return nets, h, nets.features(torch.randn(3, 1, 8, 8))


def _vector_case() -> tuple[Nets, Adapter, Tensor]:
    nets = Nets(vector_category(), vector_task(seed=1), vector_task())
    h = make_adapter((5,), (5,), AdapterRecipe(final_relu=False), generator(0, "a"))
    return nets, h, nets.features(torch.randn(3, 3))


def _token_case() -> tuple[Nets, Adapter, Tensor]:
    nets = Nets(token_category(), token_task(seed=1), token_task())
    h = make_adapter((3, 4), (3, 4), AdapterRecipe(final_relu=False), generator(0, "a"))
    return nets, h, nets.features(torch.randn(3, 3, 3))


CASES: dict[str, tuple[Callable[[], tuple[Nets, Adapter, Tensor]], Semantics]] = {
    "images": (_image_case, "classification"),
    "vectors": (_vector_case, "regression"),
    "tokens through attention": (_token_case, "classification"),
}


# Neither tanh nor attention has a linear stand-in.
PAIRS = [("images", "pseudo_gradient"), *product(CASES, ["distillation", "back_distillation"])]


@pytest.mark.parametrize("case, objective", PAIRS)
def test_finite_differences_agree_with_the_double_backward(case: str, objective: Objective) -> None:
    torch.manual_seed(0)
    nets, h, features = CASES[case][0]()
    for net in (*nets.all, h):
        net.double()
    features = features.double()
    recipe = TransplantRecipe(objectives={objective: 1.0})
    linears = Linears.of(nets, h, features) if objective == "pseudo_gradient" else None
    names = [name for name, _ in h.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        bound = _Bound(h, dict(zip(names, values, strict=True)))
        if linears is not None:
            for name, value in bound.values.items():
                _put(linears.adapter, name, value)
        found = step_losses(
            nets, bound, Batch(features), recipe=recipe, semantics=CASES[case][1], step=recipe.steps, linears=linears
        )
        return found[objective]

    with differentiable_twice():
        assert torch.autograd.gradcheck(loss, [p.detach().clone().requires_grad_() for p in h.parameters()], atol=1e-5)


class _Bound(nn.Module):
    """A net run with other values for its parameters."""

    def __init__(self, net: nn.Module, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.__dict__.update(net=net, values=values)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = functional_call(self.net, self.values, (x,))
        return found


def _put(net: nn.Module, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    place = net.get_submodule(owner)
    place._parameters.pop(leaf, None)
    place.__dict__[leaf] = value


def test_every_objective_named_is_a_term_and_no_other() -> None:
    nets, h, features = _image_case()
    labels = torch.tensor([0, 2])
    for objectives in ({"direct": 1.0}, {"distillation": 1.0}, {"back_distillation": 1.0, "direct": 2.0}):
        found = step_losses(
            nets,
            h,
            Batch(features, labels),
            recipe=TransplantRecipe(objectives=objectives),  # type: ignore[arg-type]
            semantics="classification",
            step=0,
        )
        assert set(found) == set(objectives)
        assert all(loss.requires_grad and loss.ndim == 0 for loss in found.values())


def test_labels_count_for_the_first_rows_only() -> None:
    nets, h, features = _image_case()
    recipe = TransplantRecipe(objectives={"direct": 1.0})

    def direct(rows: int) -> Tensor:
        batch = Batch(features[:rows], torch.tensor([0, 2]))
        return step_losses(nets, h, batch, recipe=recipe, semantics="classification", step=0)["direct"]

    assert torch.allclose(direct(2), direct(3))
