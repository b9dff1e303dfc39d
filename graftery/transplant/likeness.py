"""How like two features are, channel by channel: one linear map's residual, and linear CKA. Both from second moments.

Shapes: M rows (a sample, a token or a position each), X and Z the channels of the two features, D = 1 + X + Z.
Source: CKA from Kornblith et al. 2019, over rows instead of whole images; the residual is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from graftery.spec.recipes import PRECHECK_POSITIONS, PRECHECK_RIDGE

_EXACT = 1024
"""Up to so many channels in all, sums are made in float64."""


@dataclass(frozen=True)
class Likeness:
    """What was found; None where it was not, and then `reason` says why.

    Args:
        residual: variance of Z that no affine map of X explains, on rows that the map was not made from; 0 is a perfect
            map, 1 no better than Z's mean, more is worse than that.
        cka: linear CKA of X and Z, in [0, 1]: 1 where they are the same up to a rotation and a scale.
    """

    residual: float | None
    cka: float | None
    reason: str | None = None


class Moments:
    """Sums over rows of (1, x, z) and its products [D, D], once for rows to learn from and once for rows to test on."""

    def __init__(self) -> None:
        self._sums: list[Tensor | None] = [None, None]
        self._width = 0

    def add(self, x: Tensor, z: Tensor, *, test: bool) -> None:
        """Take in features of the same inputs.

        Args:
            x, z: [N, C, H, W], resized to z's size; [N, T, D] of as many tokens; or [N, D]. See `comparable`.
        """
        x_MX, z_MZ = _rows(x, z)
        self._width = x_MX.shape[1]
        dtype = torch.float64 if x_MX.shape[1] + z_MZ.shape[1] <= _EXACT else torch.float32
        rows_MD = torch.cat([torch.ones(len(x_MX), 1), x_MX, z_MZ], 1).to(dtype)
        before, more_DD = self._sums[test], (rows_MD.T @ rows_MD).double()
        self._sums[test] = more_DD if before is None else before + more_DD

    def likeness(self) -> Likeness:
        """What the rows so far tell."""
        learned_DD, tested_DD = self._sums
        if learned_DD is None or tested_DD is None:
            return Likeness(None, None, "there are no rows")
        if not bool(torch.isfinite(learned_DD + tested_DD).all()):
            return Likeness(None, None, "a feature is not finite on noise")
        cka = _cka(*_split(_covariance(learned_DD + tested_DD), self._width))
        if cka is None:
            return Likeness(None, None, "a feature does not vary on noise")
        if learned_DD[0, 0] < 2 * (self._width + 1):
            rows = int(learned_DD[0, 0])
            return Likeness(None, cka, f"{rows} rows of noise are too few for a map of {self._width} channels")
        residual = _residual(learned_DD, tested_DD, self._width)
        return Likeness(
            residual, cka, None if residual is not None else "the neighbour's feature does not vary on noise"
        )


def comparable(x: tuple[int, ...], z: tuple[int, ...]) -> str | None:
    """Why features of these shapes (without the batch) have no common rows; None where they do."""
    if len(x) != len(z) or len(x) not in (1, 2, 3):
        return f"no linear map of channels leads from features {list(x)} to {list(z)}"
    return f"{x[0]} tokens are not {z[0]} tokens" if len(x) == 2 and x[0] != z[0] else None


def _rows(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    if x.ndim == 4:
        if x.shape[2:] != z.shape[2:]:
            x = F.interpolate(x, size=z.shape[2:], mode="bilinear", align_corners=False)
        x, z = (each.flatten(2).transpose(1, 2) for each in (x, z))
    if x.ndim == 3:
        step = -(-x.shape[1] // PRECHECK_POSITIONS)
        x, z = (each[:, ::step].flatten(0, 1) for each in (x, z))
    return x, z


def _covariance(sums_DD: Tensor) -> Tensor:
    """Of the channels, without the leading 1."""
    mean_C = sums_DD[0, 1:] / sums_DD[0, 0]
    return sums_DD[1:, 1:] / sums_DD[0, 0] - mean_C[:, None] * mean_C


def _split(matrix: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """XX, XZ and ZZ."""
    return matrix[:width, :width], matrix[:width, width:], matrix[width:, width:]


def _cka(xx: Tensor, xz: Tensor, zz: Tensor) -> float | None:
    scale = float(xx.norm() * zz.norm())
    return min(1.0, float(xz.square().sum()) / scale) if scale > 0 else None


def _residual(learned_DD: Tensor, tested_DD: Tensor, width: int) -> float | None:
    """Share of Z's variance in the rows to test on that the ridge map of the other rows leaves."""
    xx, xz, _ = _split(_covariance(learned_DD), width)
    ridge = PRECHECK_RIDGE * xx.diagonal().mean() * torch.eye(width, dtype=xx.dtype)
    map_XZ = torch.linalg.lstsq(xx + ridge, xz).solution
    total = float(_split(_covariance(tested_DD), width)[2].trace())
    if total <= 0:
        return None
    # Of the rows to test on, about the means of those to learn from: the map is affine.
    count, mean_C = tested_DD[0, 0], learned_DD[0, 1:] / learned_DD[0, 0]
    here_C = tested_DD[0, 1:] / count
    away = tested_DD[1:, 1:] / count - here_C[:, None] * mean_C - mean_C[:, None] * here_C + mean_C[:, None] * mean_C
    xx, xz, zz = _split(away, width)
    left = float(zz.trace() - 2 * (map_XZ * xz).sum() + (map_XZ * (xx @ map_XZ)).sum())
    return max(0.0, left) / total if math.isfinite(left) else None
