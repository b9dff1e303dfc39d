from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from graftery.data.streams import generator
from graftery.spec.recipes import LEAST_SPREAD
from graftery.transplant import objectives as o

N = 6


def _logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(N, *shape, generator=generator(seed, "logits"), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1,), (4,), (1, 3, 3), (4, 3, 3)])
def test_distillation_is_a_divergence(shape: tuple[int, ...]) -> None:
    semantics = "classification" if len(shape) == 1 else "segmentation"
    student, teacher = _logits(*shape), _logits(*shape, seed=1)
    assert float(o.distillation(teacher, teacher, semantics, 2.0)) == pytest.approx(0, abs=1e-12)
    assert float(o.distillation(student, teacher, semantics, 2.0)) > 0.01
    if shape[0] > 1:  # A constant over the classes means nothing.
        assert float(o.distillation(teacher + 3, teacher, semantics, 2.0)) == pytest.approx(0, abs=1e-12)


def test_distillation_with_one_logit_is_that_of_two() -> None:
    student, teacher = _logits(1), _logits(1, seed=1)
    two = [torch.cat([torch.zeros_like(y), y], 1) for y in (student, teacher)]
    one = o.distillation(student, teacher, "classification", 3.0)
    assert torch.allclose(one, o.distillation(*two, "classification", 3.0))


def test_the_temperature_leaves_the_size_of_gradients() -> None:
    """T^2 KL tends to the mean squared difference of centred logits over 2K, whatever T."""
    student, teacher = _logits(4), _logits(4, seed=1)
    difference = (student - teacher) - (student - teacher).mean(1, keepdim=True)
    limit = difference.square().sum(1).mean() / 8
    for temperature in (1e2, 1e3):
        found = o.distillation(student, teacher, "classification", temperature)
        assert float(found) == pytest.approx(float(limit), rel=0.05)


def test_distillation_of_a_regression_is_no_greater_where_a_batch_hardly_varies() -> None:
    """Views of one sample: measured in their own variance, any error would be without bounds."""
    torch.manual_seed(0)
    many = torch.randn(200, 2)
    batch = many[:1].expand(4, 2)
    loss = o.distillation(batch + 0.1, batch, "regression", 2.0, o.spread(many))
    assert float(loss) == pytest.approx(0.01, rel=0.3)


def test_distillation_of_a_regression_has_no_unit() -> None:
    student, teacher = _logits(3), _logits(3, seed=1)
    one = o.distillation(student, teacher, "regression", 2.0)
    assert torch.allclose(one, o.distillation(1000 * student, 1000 * teacher, "regression", 5.0))
    wanted = ((student - teacher).square().mean(0) / teacher.var(0, correction=0)).mean()
    assert torch.allclose(one, wanted)
    units = torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64)
    assert torch.allclose(one, o.distillation(units * student, units * teacher, "regression", 2.0))
    assert torch.equal(
        o.distillation(student[:, :1], teacher[:, :1], "regression", 2.0),
        F.mse_loss(student[:, :1], teacher[:, :1]) / (teacher[:, :1] - teacher[:, :1].mean()).square().mean(),
    )


def test_a_constant_explains_nothing_of_a_regression_with_several_outputs() -> None:
    """However far apart the outputs' means are."""
    teacher = _logits(3) + torch.tensor([0.0, 50.0, 100.0], dtype=torch.float64)
    constant = teacher.mean(0, keepdim=True).expand_as(teacher)
    assert float(o.distillation(constant, teacher, "regression", 2.0)) == pytest.approx(1)


def test_255_is_a_class_as_any_other_but_of_pixels() -> None:
    logits, ids = _logits(300), torch.full((N,), 255)
    assert torch.allclose(o.direct(logits, ids, "classification"), F.cross_entropy(logits, ids))
    nothing = o.direct(_logits(300, 2, 2), torch.full((N, 2, 2), 255), "segmentation")
    assert float(nothing) == 0


def test_direct_is_the_task_loss() -> None:
    ids = torch.tensor([0, 1, 2, 3, 0, 1])
    assert torch.allclose(o.direct(_logits(4), ids, "classification"), F.cross_entropy(_logits(4), ids))
    yes = (ids > 1).long()
    wanted = F.binary_cross_entropy_with_logits(_logits(1)[:, 0], yes.double())
    assert torch.allclose(o.direct(_logits(1), yes, "classification"), wanted)
    values = _logits(2, seed=1).float()
    assert torch.allclose(o.direct(_logits(2), values, "regression"), F.mse_loss(_logits(2), values.double()))


def test_labels_of_a_regression_are_measured_in_their_own_spread() -> None:
    outputs, labels = _logits(2), _logits(2, seed=1)
    one = o.direct(outputs, labels, "regression", o.spread(labels))
    assert torch.allclose(one, (F.mse_loss(outputs, labels, reduction="none") / labels.var(0, correction=0)).mean())
    units = torch.tensor([1e4, 1e3], dtype=torch.float64)
    assert torch.allclose(one, o.direct(units * outputs, units * labels, "regression", o.spread(units * labels)))


def test_an_output_that_hardly_varies_does_not_outweigh_the_others() -> None:
    labels = _logits(2) * torch.tensor([1.0, 0.0], dtype=torch.float64)
    unit = o.spread(labels)
    assert unit.shape == (1, 2) and float(unit[0, 1] / unit[0, 0]) == pytest.approx(LEAST_SPREAD)
    assert float(o.spread(torch.zeros(4, 2)).min()) > 0
    assert o.spread(torch.randn(4, 3, 2, 2)).shape == (1, 3, 1, 1)


@pytest.mark.parametrize("classes", [1, 3])
def test_ignored_pixels_count_for_nothing(classes: int) -> None:
    logits = _logits(classes, 4, 4).requires_grad_()
    labels = torch.randint(0, max(2, classes), (N, 4, 4), generator=generator(0, "labels"))
    labels[:, :2] = 255
    loss = o.direct(logits, labels, "segmentation")
    assert torch.allclose(loss, o.direct(logits[:, :, 2:], labels[:, 2:], "segmentation"))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(gradient[:, :, :2].abs().max()) == 0


def test_back_distillation_is_relative_to_the_teachers_gradient() -> None:
    d_teacher = _logits(5, 2, 2)
    sizes = d_teacher.flatten(1).norm(dim=1).view(N, 1, 1, 1)
    even = d_teacher / sizes
    assert float(o.back_distillation(even, even)) == 0
    assert float(o.back_distillation(torch.zeros_like(even), even)) == pytest.approx(1, rel=2e-3)
    assert float(o.back_distillation(1000 * 3 * even, 1000 * even)) == pytest.approx(4, rel=2e-3)


def test_every_sample_counts_the_same_however_steep_the_teacher_is() -> None:
    d_teacher = _logits(5)
    d_student = d_teacher * torch.tensor([2.0, 1, 1, 1, 1, 1])[:, None]
    steep = torch.tensor([0.3, 1, 1, 1, 1, 1])[:, None]
    even, uneven = (o.back_distillation(d_student * by, d_teacher * by) for by in (1, steep))
    assert float(even) == pytest.approx(1 / N, rel=0.01)
    assert float(uneven) == pytest.approx(1 / N, rel=0.05)


def test_a_flat_teacher_does_not_blow_up() -> None:
    d_teacher = _logits(5)
    d_teacher[0] = 0
    assert float(o.back_distillation(d_teacher + 0.01, d_teacher)) < 1
    assert torch.isfinite(o.back_distillation(torch.zeros(2, 3), torch.zeros(2, 3)))


def test_the_cosine_form_knows_directions_only() -> None:
    d = _logits(5)
    assert float(o.back_distillation_cosine(7 * d, d)) == pytest.approx(0, abs=1e-9)
    assert float(o.back_distillation_cosine(-d, d)) == pytest.approx(4)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (_logits(5, seed=1), d)]
    wanted = (unit[0] - unit[1]).square().sum(1).mean()
    assert torch.allclose(o.back_distillation_cosine(_logits(5, seed=1), d), wanted)


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2)])
def test_distributions_match_whichever_sample_each_value_belongs_to(shape: tuple[int, ...]) -> None:
    teacher = _logits(*shape, seed=1)
    shuffled = teacher[torch.tensor([1, 2, 3, 4, 5, 0])]
    assert float(o.distribution_mismatch(shuffled, teacher)) == 0
    spread = teacher.transpose(0, 1).flatten(1).std(1, correction=0).view(-1, *[1] * (len(shape) - 1))
    assert float(o.distribution_mismatch(teacher + spread, teacher)) == pytest.approx(1, rel=1e-4)
    assert float(o.distribution_mismatch(3 * teacher, teacher)) > 0.1


def test_the_same_mean_and_deviation_are_not_the_same_distribution() -> None:
    """Two outputs of ten are positive, or eight: the threshold lies elsewhere."""
    teacher = torch.cat([torch.full((8, 1), -0.5), torch.full((2, 1), 2.0)])
    assert float(o.distribution_mismatch(-teacher, teacher)) > 0.3


def test_no_wall_parts_an_output_from_its_opposite() -> None:
    """On the way from -y to y the student passes an output without spread, which costs the variance and no more."""
    teacher = _logits(3)
    teacher -= teacher.mean(0)
    flat = (1e-4 * teacher).requires_grad_()
    loss = o.distribution_mismatch(flat, teacher)
    assert float(loss.detach()) == pytest.approx(1, abs=1e-3)
    (gradient,) = torch.autograd.grad(loss, flat)
    assert float(gradient.abs().max()) < 10


def test_directions_are_unit_vectors_of_the_seed() -> None:
    y = _logits(3, 2)
    found = o.directions(y, generator(0, "d"))
    assert torch.allclose(found.flatten(1).norm(dim=1), torch.ones(N, dtype=torch.float64))
    assert torch.equal(found, o.directions(y, generator(0, "d")))
    assert not torch.equal(found, o.directions(y, generator(1, "d")))


def test_the_input_gradient_is_that_of_finite_differences() -> None:
    x, direction = _logits(4).requires_grad_(), o.directions(_logits(2), generator(0, "d"))
    weight = torch.randn(4, 2, dtype=torch.float64)

    def y(value: torch.Tensor) -> torch.Tensor:
        return torch.tanh(value @ weight)

    gradient = o.input_gradient(y(x), x, direction, create_graph=False)
    step = 1e-6 * _logits(4, seed=2)
    change = ((y(x + step) - y(x - step)) * direction).sum(1) / 2
    assert torch.allclose((gradient * step).sum(1), change.detach(), rtol=1e-5, atol=1e-14)
