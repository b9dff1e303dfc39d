"""A compatibility group: what networks agree on before they are trained, as a module file.

The file's graph holds the shared heads, from features to logits, once they are trained; before that it gives its input
back. `group.initial.NAME` are the weights that all begin with; `group.check.x` and `group.check.y`, images of common
classes on which a member's extractor can be checked; `group.check.features`, what the first member's extractor gives for
them, on which a head can be tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from graftery.compat.splitting import Design
from graftery.data import SampleSet
from graftery.data.streams import generator
from graftery.errors import Misfit, RecipeRefused, SamplesRefused
from graftery.module import ModuleFile, trace
from graftery.module.meaning import HEADS, TURNS, UNTRAINED
from graftery.nn.pieces import in_pieces
from graftery.spec.groups import above
from graftery.spec.manifest import CompatMethod, GroupSpec, OutputMeaning, Preprocessing, TensorSpec

INITIAL = "group.initial."
CHECK_X, CHECK_Y, CHECK_FEATURES = "group.check.x", "group.check.y", "group.check.features"
CHECKED = 512
"""At most as many images in `group.check`."""
FEATURES_BYTES = 2**24
"""At most as many of `group.check.features`: of large features, those of fewer images."""


@dataclass(frozen=True)
class Group:
    """A group's file, as trainings use it."""

    file: ModuleFile

    def __post_init__(self) -> None:
        if self.file.manifest.kind != "group":
            raise Misfit(f"a group is needed here, not a {self.file.manifest.kind}", code="kind_mismatch")

    @property
    def spec(self) -> GroupSpec:
        spec = self.file.manifest.group
        assert spec is not None  # noqa: S101 - `check_meaning` has seen it
        return spec

    @property
    def signature(self) -> TensorSpec:
        """Of the features at the split."""
        return self.file.manifest.input

    @property
    def cut(self) -> str | None:
        return self.file.manifest.cut

    @property
    def trained(self) -> bool:
        """Whether the shared heads are there. A group without any needs no training."""
        return set(self.file.manifest.outputs) != {UNTRAINED} or not self.heads

    @property
    def heads(self) -> dict[str, int]:
        """The shared heads that the methods ask for, and their logits."""
        sizes = {"RP": TURNS, "DCC": len(self.spec.common)}
        return {HEADS[method]: sizes[method] for method in self.spec.methods if method in HEADS}

    @property
    def initial(self) -> dict[str, Tensor]:
        """The weights that members begin with, by their names in the net."""
        extras = self.file.extras.items()
        return {name.removeprefix(INITIAL): value for name, value in extras if name.startswith(INITIAL)}

    @property
    def check(self) -> SampleSet | None:
        """Images of common classes, with their indices, where the owner gave some."""
        x = self.file.extras.get(CHECK_X)
        return None if x is None else SampleSet(x, self.file.extras.get(CHECK_Y))

    @property
    def seen(self) -> SampleSet | None:
        """The first member's features of `check`, or of those of it for which there was room, with their labels."""
        check, features = self.check, self.file.extras.get(CHECK_FEATURES)
        return None if check is None or features is None else SampleSet(features, a_few(check, len(features)).y)


def found(
    design: Design,
    methods: tuple[CompatMethod, ...],
    image: Tensor,
    *,
    common: Mapping[str, tuple[str, ...]] | None = None,
    preprocessing: Preprocessing | None = None,
    check: SampleSet | None = None,
    seed: int = 0,
    description: str = "",
) -> ModuleFile:
    """Found a group: the methods, the split's signature and the first weights, before any network is trained.

    Args:
        design: of a member; with IIW all members are built so, else they only need features of the same shape.
        methods: any of RP, DCC, IIW.
        image: [n, ...], whose shape is an input's.
        common: common classes and the names that tasks have for each; DCC needs two.
        check: a few images of common classes, labelled by their index in `common`, that the owner lets go with the group.
        seed: of the first weights.

    Raises:
        RecipeRefused: `common_classes`; RP for images that are not square.
        CutRefused: the design's cut.
    """
    spec = GroupSpec(
        methods=methods, common=dict(common or {}), image=TensorSpec(dtype="float32", shape=("N", *image.shape[1:]))
    )
    check_methods(spec)
    split = design.split(TURNS, seed, "group")
    with torch.no_grad():
        features = split.extractor.eval()(image[:1].float())
    extras = _initial(design, seed) if "IIW" in methods else {}
    extras |= {} if check is None else checks(_in_order(check, list(common or {}), spec), spec)
    given = {UNTRAINED: OutputMeaning()}
    file = trace(
        _Back(), features.expand(2, *features.shape[1:]), kind="adapter", outputs=given, description=description
    )
    return _as_group(file, spec, design.cut, preprocessing, extras)


def _in_order(check: SampleSet, given: list[str], spec: GroupSpec) -> SampleSet:
    """Labelled in the order of the head's logits, in place of that in which the classes were given."""
    y, order = check.y, list(spec.common)
    if y is None or y.is_floating_point() or y.ndim != 1 or not 0 <= int(y.min()) <= int(y.max()) < len(given):
        return check  # which `checks` says
    return SampleSet(check.x, torch.tensor([order.index(name) for name in given])[y.long()])


def with_heads(
    group: Group, heads: Mapping[str, nn.Module], features: Tensor, extractor: Callable[[Tensor], Tensor] | None = None
) -> ModuleFile:
    """The group with the shared heads that a training gave.

    Args:
        heads: by the output's name.
        features: [n, ...] of a member.
        extractor: a member's, in evaluation mode: its features of the group's own images go along.
    """
    meanings = {name: OutputMeaning(semantics="classification", class_names=_names(group, name)) for name in heads}
    file = trace(_Heads(heads), features[:1].expand(2, *features.shape[1:]), kind="teacher", outputs=meanings)
    kept = {name: value for name, value in group.file.extras.items() if name.startswith("group.")}
    if extractor is not None and group.check is not None:
        kept[CHECK_FEATURES] = _features(extractor, group.check)
    manifest = group.file.manifest
    made = _as_group(file, group.spec, group.cut, manifest.preprocessing, kept)
    return replace(made, manifest=made.manifest.model_copy(update={"description": manifest.description}))


def _features(extractor: Callable[[Tensor], Tensor], check: SampleSet) -> Tensor:
    """Of as many of the images as there is room for."""
    with torch.no_grad():
        one = extractor(check.x[:1])
        few = a_few(check, max(1, FEATURES_BYTES // (one.numel() * 4))).x
        return in_pieces(extractor, few).float().contiguous()


class _Back(nn.Module):
    """Its input, as a value of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class _Heads(nn.Module):
    def __init__(self, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(dict(heads))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: head(x) for name, head in self.heads.items()}


def _names(group: Group, head: str) -> tuple[str, ...] | None:
    return tuple(group.spec.common) if head == HEADS["DCC"] else ("0", "90", "180", "270")


def _as_group(
    file: ModuleFile,
    spec: GroupSpec,
    cut: str | None,
    preprocessing: Preprocessing | None,
    extras: Mapping[str, Tensor],
) -> ModuleFile:
    stated = {"kind": "group", "group": spec, "cut": cut, "preprocessing": preprocessing}
    return replace(file, manifest=file.manifest.model_copy(update=stated), extras={**file.extras, **extras})


def check_methods(spec: GroupSpec) -> None:
    """Refuse methods that the group's classes or images leave nothing to do.

    Raises:
        RecipeRefused: `common_classes`; `recipe_invalid`.
    """
    if "DCC" in spec.methods and len(spec.common) < 2:
        raise RecipeRefused(f"DCC tells common classes apart, but {len(spec.common)} are named", code="common_classes")
    sides = spec.image.shape[2:]
    if "RP" in spec.methods and (len(sides) != 2 or sides[0] != sides[1]):
        raise RecipeRefused(f"RP turns images, which must be [N, C, S, S]; these are {list(spec.image.shape)}")


def _initial(design: Design, seed: int) -> dict[str, Tensor]:
    """The weights of a net that do not depend on its number of logits, as `group.initial.NAME`."""
    one, other = (weights_of(design.build(logits, seed, "group")) for logits in (2, 3))
    same = {name: value for name, value in one.items() if name in other and value.shape == other[name].shape}
    return {f"{INITIAL}{name}": value.detach().clone() for name, value in same.items()}


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """What a net computes with, by name: parameters and buffers of floating point, those that no state dict has too."""
    named = (*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False))
    return {name: value for name, value in named if value.is_floating_point()}


def checks(check: SampleSet, spec: GroupSpec) -> dict[str, Tensor]:
    """`group.check.x` and `group.check.y`, at most CHECKED of them.

    Raises:
        SamplesRefused: `samples_invalid`; not the group's images, labels that are no common classes, or so few images or
            classes that the best of members would be refused.
    """
    check = a_few(check, CHECKED)
    y = check.y
    if y is not None and (
        y.ndim != 1 or y.is_floating_point() or not 0 <= int(y.min()) <= int(y.max()) < len(spec.common)
    ):
        raise SamplesRefused(f"the group's images are labelled by common class, 0 to {len(spec.common) - 1}, [n]")
    if tuple(check.x.shape[1:]) != tuple(spec.image.shape[1:]):
        raise SamplesRefused(f"the group's images are {list(check.x.shape)}, its input is {list(spec.image.shape)}")
    if y is not None and "DCC" in spec.methods:
        _check_telling(y.long(), "common classes")
    if "RP" in spec.methods:
        _check_telling(torch.arange(len(check)) % TURNS, "turns")
    labelled = {} if y is None else {CHECK_Y: y.long()}
    return {CHECK_X: check.x.float().contiguous(), **labelled}


def a_few(check: SampleSet, most: int) -> SampleSet:
    """So many of them at most, always the same."""
    if len(check) <= most:
        return check
    return check.take(torch.randperm(len(check), generator=generator(0, "group.check"))[:most].sort().values)


def _check_telling(labels: Tensor, what: str) -> None:
    """Refuse images on which a member that is right on all of them would not be above chance."""
    chance, count = float(torch.bincount(labels).max()) / len(labels), len(labels)
    if not above(1.0, chance, count):
        raise SamplesRefused(
            f"the group's {count} images to check members on tell nothing of {what}: chance is right on {chance:.0%} of them",
            hint="give more, some of each common class, or none: then no member is tried",
        )
