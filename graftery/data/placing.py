"""Getting what the CPU drew to the device: randomness is the CPU's (`graftery.data.streams`), on every device the same."""

from __future__ import annotations

import torch
from torch import Tensor


def onto(values: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. The CPU does not wait until the device has done what it was given before."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
