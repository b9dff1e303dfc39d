from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graftery.transplant.likeness import Likeness, Moments, comparable


def _of(x: Tensor, z: Tensor, test_x: Tensor, test_z: Tensor) -> Likeness:
    moments = Moments()
    for part in range(0, len(x), 100):
        moments.add(x[part : part + 100], z[part : part + 100], test=False)
    moments.add(test_x, test_z, test=True)
    return moments.likeness()


def _drawn(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) + 3


def test_an_affine_map_leaves_nothing() -> None:
    x, test = _drawn(500, 6, 0), _drawn(500, 6, 1)
    weight = _drawn(6, 4, 2)
    found = _of(x, x @ weight - 7, test, test @ weight - 7)
    assert found.residual == pytest.approx(0, abs=1e-5)
    assert found.reason is None


def test_independent_features_are_not_explained() -> None:
    found = _of(_drawn(2000, 5, 0), _drawn(2000, 5, 1), _drawn(2000, 5, 2), _drawn(2000, 5, 3))
    assert found.residual == pytest.approx(1, abs=0.05)
    assert found.cka is not None
    assert found.cka < 0.05


def test_half_of_the_variance_is_half_of_the_residual() -> None:
    x, test = _drawn(4000, 3, 0), _drawn(4000, 3, 1)
    found = _of(x, x + _drawn(4000, 3, 2), test, test + _drawn(4000, 3, 3))
    assert found.residual == pytest.approx(0.5, abs=0.03)


def test_a_shift_of_the_mean_that_the_map_does_not_follow_counts() -> None:
    """Two standard deviations off, squared, beside the whole variance."""
    found = _of(_drawn(2000, 3, 0), _drawn(2000, 2, 1), _drawn(2000, 3, 2), _drawn(2000, 2, 3) + 2)
    assert found.residual == pytest.approx(5, abs=0.3)


def test_the_map_is_judged_on_other_rows() -> None:
    """As many rows as twice the channels can be learned by heart; new ones cannot."""
    found = _of(_drawn(100, 40, 0), _drawn(100, 5, 1), _drawn(1000, 40, 2), _drawn(1000, 5, 3))
    assert found.residual is not None
    assert found.residual > 1.2


def test_cka_is_that_of_the_definition_and_does_not_mind_rotations_and_scales() -> None:
    x, z = _drawn(300, 4, 0), torch.relu(_drawn(300, 4, 0) @ _drawn(4, 7, 1))
    found = _of(x[:150], z[:150], x[150:], z[150:])
    a, b = x - x.mean(0), z - z.mean(0)
    gram_a, gram_b = (a @ a.T).double(), (b @ b.T).double()
    wanted = float((gram_a * gram_b).sum() / (gram_a.norm() * gram_b.norm()))
    assert found.cka == pytest.approx(wanted, rel=1e-4)
    rotation = torch.linalg.qr(_drawn(4, 4, 5)).Q
    turned = x @ rotation * 9 + 2
    assert _of(x[:150], turned[:150], x[150:], turned[150:]).cka == pytest.approx(1, rel=1e-4)


def test_maps_are_compared_by_position_and_tokens_by_token() -> None:
    x = torch.randn(40, 4, 6, 6)
    weight = torch.randn(5, 4, 1, 1)
    z = torch.nn.functional.conv2d(torch.nn.functional.interpolate(x, size=(3, 3), mode="bilinear"), weight)
    assert _of(x[:20], z[:20], x[20:], z[20:]).residual == pytest.approx(0, abs=1e-5)
    tokens = torch.randn(40, 9, 4)
    images = tokens @ torch.randn(4, 6)
    assert _of(tokens[:20], images[:20], tokens[20:], images[20:]).residual == pytest.approx(0, abs=1e-5)


def test_large_maps_are_thinned_out() -> None:
    moments = Moments()
    moments.add(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64), test=False)
    rows = moments._sums[0]
    assert rows is not None
    assert rows[0, 0] == 2 * 256


@pytest.mark.parametrize(
    ("x", "z", "residual", "cka", "said"),
    [
        (_drawn(9, 8, 0), _drawn(9, 8, 1), False, True, "9 rows of noise are too few for a map of 8 channels"),
        (_drawn(50, 2, 0), torch.ones(50, 2), False, False, "does not vary"),
        (_drawn(50, 2, 0), torch.full((50, 2), torch.inf), False, False, "not finite"),
    ],
)
def test_what_cannot_be_measured_is_null_with_its_reason(
    x: Tensor, z: Tensor, residual: bool, cka: bool, said: str
) -> None:
    found = _of(x, z, x, z)
    assert (found.residual is not None, found.cka is not None) == (residual, cka)
    assert said in str(found.reason)


def test_no_rows() -> None:
    assert Moments().likeness().reason == "there are no rows"


def test_features_of_different_kinds_have_no_common_rows() -> None:
    assert comparable((4, 8, 8), (6, 4, 4)) is None
    assert comparable((9, 4), (9, 6)) is None
    assert comparable((4,), (7,)) is None
    assert "tokens" in str(comparable((9, 4), (8, 4)))
    assert "no linear map" in str(comparable((4, 8, 8), (6,)))
