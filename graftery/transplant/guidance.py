"""A sketch as the target of an inversion: images whose features have the layout that the owner's images gave them.

Shapes: N images, F the feature's elements, k principal directions, C channels.
Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graftery.spec.manifest import Semantics
from graftery.spec.recipes import GUIDE_DIRECTIONS, GUIDE_DIRECTIONS_WEIGHT, GUIDE_FAINTEST, GUIDE_FLOOR
from graftery.transplant.moments import as_channels


@dataclass(frozen=True)
class Guidance:
    """What the features of a batch are compared with.

    Args:
        mean, variance: [F], of each element.
        floor: [F], added to variances.
        directions: [k, F], unit vectors.
        deviations: [k], standard deviation along them.
    """

    mean: Tensor
    variance: Tensor
    floor: Tensor
    directions: Tensor
    deviations: Tensor

    @classmethod
    def of_category(cls, sketched: Mapping[str, Tensor], features: Tensor, semantics: Semantics) -> Guidance | None:
        """From what f's file carries beside f: only for dense outputs, which depend on where things are."""
        return cls.of(sketched, features) if semantics == "segmentation" else None

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], features: Tensor) -> Guidance | None:
        """From a sketch; None where there is none, or it is of features of another size than these [n, ...]."""
        mean = tensors.get("sketch.mean")
        if mean is None or mean.shape != features.shape[1:]:
            return None
        scaled = tensors["sketch.directions"]
        variance = scaled.square().sum(0) + as_channels(tensors["sketch.residual"], mean).square()
        over = (1, 2) if mean.ndim == 3 else tuple(range(mean.ndim - 1))
        channel = variance.mean(over, keepdim=True) if over else variance
        floor = (GUIDE_FLOOR * channel).expand_as(variance) + 1e-6
        scaled_kF = scaled[:GUIDE_DIRECTIONS].flatten(1)
        deviation_k = scaled_kF.norm(dim=1)
        varies_k = deviation_k > GUIDE_FAINTEST * deviation_k.max().clamp_min(1e-6)
        scaled_kF, deviation_k = scaled_kF[varies_k], deviation_k[varies_k]
        parts = mean.flatten(), variance.flatten(), floor.flatten(), scaled_kF / deviation_k[:, None], deviation_k
        return cls(*(part.to(features) for part in parts))

    def mismatch(self, features: Tensor) -> Tensor:
        """How far mean and variance of a batch are from the sketch's, by element and along the principal directions.

        Math: mean over elements of (m - m_0)^2 / v_0 + (log v / v_0)^2, + 0.3 times the same over directions, if there are any.

        Args:
            features: [N, ...], N at least 2.

        Returns:
            A scalar, at least 0, differentiable in `features`.
        """
        flat_NF = features.flatten(1)
        along_Nk = (flat_NF - self.mean) @ self.directions.T / self.deviations
        wanted_F = self.variance + self.floor
        variance_F, mean_F = torch.var_mean(flat_NF, 0, correction=0)
        of_elements = (mean_F - self.mean).square() / wanted_F + ((variance_F + self.floor) / wanted_F).log().square()
        if not along_Nk.shape[1]:
            return of_elements.mean()
        variance_k, mean_k = torch.var_mean(along_Nk, 0, correction=0)
        of_directions = mean_k.square() + ((variance_k + GUIDE_FLOOR) / (1 + GUIDE_FLOOR)).log().square()
        return of_elements.mean() + GUIDE_DIRECTIONS_WEIGHT * of_directions.mean()
