from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from graftery.compat import Checked, Trained, check_member, checking, groups
from graftery.compat.checking import check_group
from graftery.compat.groups import CHECK_FEATURES, Group
from graftery.compat.recombination import through
from graftery.errors import GrafteryError
from graftery.module import ModuleFile
from graftery.spec.groups import above
from graftery.spec.manifest import Parent, Preprocessing, TensorSpec


def _stating(file: ModuleFile, **changed: object) -> ModuleFile:
    return replace(file, manifest=file.manifest.model_copy(update=changed))


def test_a_member_passes_with_what_the_groups_heads_see_in_it(trained: Trained) -> None:
    found = check_member(trained.members["a"].extractor, trained.group)
    assert found.common is not None and found.common > 0.6
    assert found.rotation is not None and found.rotation > 0.4
    assert check_member(trained.members["b"].head, trained.group).common is None


def test_chance_is_told_beside_what_was_reached(trained: Trained) -> None:
    found = check_member(trained.members["a"].extractor, trained.group)
    check = Group(trained.group).check
    assert check is not None and check.y is not None
    assert found.common_chance == pytest.approx(float(torch.bincount(check.y).max()) / len(check))
    assert found.rotation_chance == 0.25


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"common": {"3": ("3",)}}, "common_classes"),
        ({"image": TensorSpec(dtype="float32", shape=("N", 1, 8, 6))}, "recipe_invalid"),
    ],
)
def test_a_group_that_nobody_could_have_founded_is_refused(group: ModuleFile, changed: Any, code: str) -> None:
    spec = Group(group).spec
    assert {"RP", "DCC"} <= set(spec.methods)
    bare = replace(group, extras={name: value for name, value in group.extras.items() if ".check." not in name})
    with pytest.raises(GrafteryError) as caught:
        check_group(_stating(bare, group=spec.model_copy(update=changed)))
    assert caught.value.code == code


def test_a_large_extractor_is_tried_on_fewer_images(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier has so much time: as many images as it is enough for, and never so few that they tell nothing."""
    looked: list[int] = []

    def counted(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        looked.append(len(x))
        return through(net, x)

    monkeypatch.setattr(checking, "through", counted)
    extractor = trained.members["a"].extractor
    whole = check_member(extractor, trained.group)
    assert looked == [80, 80]
    monkeypatch.setattr(checking, "WORK", 1)
    assert check_member(extractor, trained.group) != whole
    assert looked[2:] == [64, 64]
    monkeypatch.setattr(checking, "FEWEST", 1)
    assert check_member(extractor, trained.group) == whole
    assert looked[4:] == [80, 80]


def test_a_head_is_tried_on_the_first_members_features(trained: Trained) -> None:
    """What it reaches is told; a head of random weights reaches chance, and names the group all the same."""
    true = check_member(trained.members["b"].head, trained.group)
    assert true.head is not None and true.head_chance is not None
    assert above(true.head, true.head_chance, 80), true
    head = trained.members["b"].head
    torch.manual_seed(0)
    noise = {name: torch.randn_like(value) if value.ndim > 1 else value for name, value in head.weights.items()}
    forged = check_member(replace(head, weights=noise), trained.group)
    assert forged.head is not None and not above(forged.head, true.head_chance, 80), forged


def test_a_head_that_names_too_few_common_classes_is_only_stated(trained: Trained) -> None:
    head = trained.members["b"].head
    (name, output), *_ = head.manifest.outputs.items()
    others = output.model_copy(update={"class_names": tuple("stuvwxyz"[: len(output.class_names)])})
    assert check_member(_stating(head, outputs={name: others}), trained.group) == Checked()


def test_features_that_are_not_the_groups_are_refused(trained: Trained, group: ModuleFile) -> None:
    check_group(trained.group)
    for file, features in (
        (trained.group, torch.zeros(81, 16, 8, 8)),
        (trained.group, torch.zeros(4, 15, 8, 8)),
        (group, torch.zeros(4, 16, 8, 8)),
    ):
        with pytest.raises(GrafteryError) as refused:
            check_group(replace(file, extras={**file.extras, CHECK_FEATURES: features}))
        assert refused.value.code in ("samples_invalid", "weight_unused")


def test_of_large_features_there_are_fewer(
    trained: Trained, group: ModuleFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "FEATURES_BYTES", 10 * 16 * 8 * 8 * 4)
    net = trained.members["a"].extractor.net()
    heads = {name: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 4)) for name in ("rotation", "common")}
    few = Group(groups.with_heads(Group(group), heads, torch.zeros(2, 16, 8, 8), net)).seen
    whole = Group(trained.group).seen
    assert few is not None and whole is not None and (len(few), len(whole)) == (10, 80)
    assert few.y is not None and len(few.y) == 10
    rows = [int((whole.x - each).flatten(1).abs().amax(1).argmin()) for each in few.x]
    assert whole.y is not None and torch.equal(whole.y[rows], few.y)


def _odd(trained: Trained) -> dict[str, tuple[ModuleFile, str]]:
    member = trained.members["a"]
    extractor, head = member.extractor, member.head
    grey = Preprocessing(mean=(0.5,), std=(1.0,), colour_order="grey")
    noise = {name: torch.randn_like(value) if value.ndim > 1 else value for name, value in extractor.weights.items()}
    wider = {name.replace("lower", "stem"): value for name, value in extractor.weights.items()}
    return {
        "a whole network": (member.net, "kind_mismatch"),
        "no group": (_stating(head, parents=()), "group_mismatch"),
        "another group": (_stating(head, parents=(Parent(role="group", digest="0" * 64),)), "group_mismatch"),
        "two groups": (
            _stating(head, parents=(*head.manifest.parents, Parent(role="group", digest="0" * 64))),
            "group_mismatch",
        ),
        "another preprocessing": (_stating(extractor, preprocessing=grey), "preprocessing_mismatch"),
        "another split": (_stating(head, input=extractor.manifest.input), "shape_mismatch"),
        "other weights": (replace(extractor, weights=wider), "architecture_mismatch"),
        "weights of no training": (replace(extractor, weights=noise), "at_chance"),
    }


@pytest.mark.parametrize(
    "what",
    [
        "a whole network", "no group", "another group", "two groups", "another preprocessing", "another split",
        "other weights", "weights of no training",
    ],
)  # fmt: skip
def test_what_is_no_member_is_refused(trained: Trained, what: str) -> None:
    module, code = _odd(trained)[what]
    with pytest.raises(GrafteryError) as refused:
        check_member(module, trained.group)
    assert refused.value.code == code
