"""A compatibility group and its members, whose weights are set by hand: nothing is trained.

Images [N, 1, 8, 8] are dark or bright, with a bar at the top. f gives what is bright and what is dark at each place; with
that, linear heads tell the tone, and how far an image was turned.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from functools import cache

import torch
from safetensors.torch import save
from torch import Tensor, nn

from graftery.compat import Design, Member, Task, found, split_at
from graftery.compat.groups import Group, with_heads
from graftery.compat.members import member_of
from graftery.data import SampleSet
from graftery.module import ModuleFile
from graftery.spec.manifest import Preprocessing

SIDE = 8
TONES = ("dark", "bright")
COMMON = {tone: (tone,) for tone in TONES}
GREY = Preprocessing(mean=(0.5,), std=(1.0,), colour_order="grey")


def images(count: int, seed: int = 0) -> SampleSet:
    """Labelled by tone."""
    random = torch.Generator().manual_seed(seed)
    tone = torch.arange(count) % 2
    x = 0.1 * torch.randn(count, 1, SIDE, SIDE, generator=random) + 0.4 * (2 * tone - 1)[:, None, None, None]
    x[:, :, :2] += 1.0
    return SampleSet(x, tone)


def sample_bytes(count: int = 40, *, wrong: int = 0, seed: int = 1) -> bytes:
    """A labelled sample set; the first `wrong` labels of the bright ones are those of dark ones."""
    made = images(count, seed)
    assert made.y is not None
    y = made.y.clone()
    y[y.nonzero()[:wrong, 0]] = 0
    return save({"x": made.x, "y": y})


def _head(rows: Tensor, bias: Tensor) -> nn.Module:
    """Logits of pictures that f has parted into what is bright and what is dark: `rows` [K, 1, 8, 8] laid on x."""
    flat = rows.flatten(1)
    linear = nn.Linear(2 * flat.shape[1], len(flat))
    linear.load_state_dict({"weight": torch.cat([flat, -flat], 1), "bias": bias})
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), linear=linear))


def _tones(threshold: float, order: tuple[str, ...] = TONES) -> nn.Module:
    even = torch.full((1, 1, SIDE, SIDE), 1 / SIDE**2)
    signs = [1.0 if tone == "bright" else -1.0 for tone in order]
    return _head(torch.cat([sign * even for sign in signs]), -threshold * torch.tensor(signs))


def _turns() -> nn.Module:
    bar = torch.full((1, SIDE, SIDE), -0.25)
    bar[:, :2] = 0.75
    return _head(torch.stack([torch.rot90(bar, k, (1, 2)) for k in range(4)]), torch.zeros(4))


class Net(nn.Module):
    """[N, 1, 8, 8] to logits; a feature at each place for bright and dark."""

    def __init__(self, logits: int) -> None:
        super().__init__()
        self.lower = nn.Sequential(OrderedDict(part=nn.Conv2d(1, 2, 1), relu=nn.ReLU()))
        self.upper = nn.Sequential(OrderedDict(flat=nn.Flatten(), linear=nn.Linear(2 * SIDE**2, logits)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.upper(self.lower(x))
        return logits


DESIGN = Design(Net, "lower")


@cache
def group(seed: int = 0, *, trained: bool = True, preprocessing: Preprocessing | None = None) -> ModuleFile:
    """Of all three methods, with images to check members on; its heads were set by hand, unless it is untrained."""
    kept = images(40, seed=100)
    made = found(
        DESIGN, ("RP", "DCC", "IIW"), kept.x, common=COMMON, check=kept, seed=seed, preprocessing=preprocessing
    )
    if not trained:
        return made
    with torch.no_grad():
        features = _net(1.0, 0.0, 0.25).lower(kept.x[:2])
    return with_heads(Group(made), {"common": _tones(0.25, tuple(sorted(COMMON))), "rotation": _turns()}, features)


def _net(scale: float, shift: float, threshold: float) -> Net:
    net = Net(2)
    with torch.no_grad():
        net.lower.part.weight.copy_(torch.tensor([scale, -scale]).view(2, 1, 1, 1))
        net.lower.part.bias.copy_(torch.tensor([shift, -shift]))
    net.upper.load_state_dict(_tones(threshold).state_dict())
    return net.eval()


@cache
def member(of: ModuleFile | None = None, *, scale: float = 1.0, shift: float = 0.0, name: str = "tone") -> Member:
    """A network for the tones, as files that name the group.

    Args:
        of: the group; by default `group()`.
        scale: of its features; below 0 they say the opposite of what the group's heads expect.
        shift: added to what its extractor gives, and to where its head parts dark from bright.
    """
    few = images(4, seed=3)
    task = Task(name, TONES, few, DESIGN)
    split = split_at(_net(scale, shift, 0.25 * abs(scale) + shift), DESIGN.cut)
    made = member_of(task, split, Group(of or group()))
    assert made.accuracy is None
    return made


def stating(file: ModuleFile, **changed: object) -> ModuleFile:
    """The same net, whose owner states something else."""
    return replace(file, manifest=file.manifest.model_copy(update=changed))
