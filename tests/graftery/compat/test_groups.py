from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graftery import load, verify
from graftery.compat import Group, Task, Trained, found
from graftery.compat.tasks import NOT_COMMON, common_labels
from graftery.data import SampleSet
from graftery.errors import GrafteryError, ModuleFileError, SamplesRefused
from graftery.module import ModuleFile
from tests.support.compatible import COMMON, DESIGN, images

X = images()[0][:4]


def test_a_group_before_its_training_gives_its_input_back(group: ModuleFile, tmp_path: Path) -> None:
    assert group.save(tmp_path / "g.safetensors") == group.digest
    assert verify(tmp_path / "g.safetensors").parameters == 0
    read = Group(load(tmp_path / "g.safetensors"))
    features = torch.randn(2, 16, 8, 8)
    assert torch.equal(read.file.net()(features), features)
    assert not read.trained
    assert read.heads == {"rotation": 4, "common": 4}
    assert read.check is not None and len(read.check) == 80


def test_common_classes_are_in_one_order_in_whatever_order_they_are_named(tmp_path: Path) -> None:
    """A file keeps no other than the alphabet's: labels that were counted in another would be other classes there."""
    x, y = images()[0][:60], torch.arange(60) % 3
    named = {"truck": ("truck", "lorry"), "cat": ("cat",), "ship": ("ship",)}
    made = found(DESIGN, ("DCC",), X, common=named, check=SampleSet(x, y))
    made.save(tmp_path / "g.safetensors")
    for group in (Group(made), Group(load(tmp_path / "g.safetensors"))):
        assert list(group.spec.common) == ["cat", "ship", "truck"]
        assert group.check is not None and group.check.y is not None
        assert [list(group.spec.common)[label] for label in group.check.y] == [list(named)[label] for label in y]
        words = Task("a", ("lorry", "bird", "cat"), SampleSet(x, y), DESIGN)
        assert common_labels(words, group.spec.common).tolist() == [2, NOT_COMMON, 0]


def test_a_trained_group_has_its_heads(trained: Trained, tmp_path: Path) -> None:
    trained.group.save(tmp_path / "g.safetensors")
    facts = verify(tmp_path / "g.safetensors")
    assert {name: spec.shape for name, spec in facts.outputs.items()} == {"rotation": ("N", 4), "common": ("N", 4)}
    assert Group(trained.group).trained


def test_the_first_weights_are_all_but_those_of_the_logits(group: ModuleFile) -> None:
    names = set(Group(group).initial)
    wanted = {name for name, value in DESIGN.net(3).state_dict().items() if value.is_floating_point()}
    assert wanted - names == {"fc.weight", "fc.bias"}


def test_a_group_keeps_its_first_weights_when_it_gets_its_heads(group: ModuleFile, trained: Trained) -> None:
    before, after = Group(group).initial, Group(trained.group).initial
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_same_seed_founds_the_same_group() -> None:
    one, same, other = (found(DESIGN, ("IIW",), X, seed=seed).digest for seed in (0, 0, 1))
    assert one == same != other


@pytest.mark.parametrize(
    ("methods", "common", "x", "code"),
    [
        (("DCC",), {"3": ("3",)}, X, "common_classes"),
        (("DCC",), {}, X, "common_classes"),
        (("RP",), {}, X[:, :, :6], "recipe_invalid"),
    ],
)
def test_methods_that_cannot_be_are_refused(methods: tuple, common: dict, x: torch.Tensor, code: str) -> None:
    with pytest.raises(GrafteryError) as refused:
        found(DESIGN, methods, x, common=common)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (SampleSet(X, torch.tensor([0, 1, 2, 4])), "labelled by common class, 0 to 3"),
        (SampleSet(X[:, :, :6], torch.tensor([0, 1, 2, 3])), "its input is"),
    ],
)
def test_images_that_are_not_of_the_common_classes_are_refused(check: SampleSet, says: str) -> None:
    with pytest.raises(SamplesRefused, match=says):
        found(DESIGN, ("DCC",), X, common=COMMON, check=check)


@pytest.mark.parametrize(
    ("methods", "count", "classes"), [(("DCC",), 4, 2), (("DCC",), 20, 1), (("RP",), 2, 4), (("RP", "DCC"), 1, 1)]
)
def test_images_that_every_member_would_fail_on_are_refused(methods: tuple, count: int, classes: int) -> None:
    check = SampleSet(torch.randn(count, 1, 8, 8), torch.arange(count) % classes)
    with pytest.raises(SamplesRefused, match="tell nothing of") as refused:
        found(DESIGN, methods, X, common=COMMON, check=check)
    assert refused.value.code == "samples_invalid"
    found(DESIGN, ("IIW",), X, common=COMMON, check=check)
    found(DESIGN, methods, X, common=COMMON, check=SampleSet(torch.randn(8, 1, 8, 8), torch.arange(8) % 4))


def test_only_so_many_images_go_with_a_group() -> None:
    x = torch.randn(700, 1, 8, 8)
    kept = Group(found(DESIGN, ("RP",), x, check=SampleSet(x))).check
    assert kept is not None and len(kept) == 512


def test_other_modules_may_not_have_a_groups_tensors(trained: Trained, tmp_path: Path) -> None:
    head = trained.members["a"].head
    odd = ModuleFile(head.manifest, head.graph, head.weights, {**head.extras, "group.check.x": X})
    odd.save(tmp_path / "odd.safetensors")
    with pytest.raises(ModuleFileError, match="only a compatibility group"):
        verify(tmp_path / "odd.safetensors")


def test_a_group_lacks_no_head_of_its_methods(trained: Trained, tmp_path: Path) -> None:
    spec = trained.group.manifest.group
    assert spec is not None
    fewer = trained.group.manifest.model_copy(update={"group": spec.model_copy(update={"methods": ("RP",)})})
    file = ModuleFile(fewer, trained.group.graph, trained.group.weights, trained.group.extras)
    file.save(tmp_path / "odd.safetensors")
    with pytest.raises(ModuleFileError, match="its methods have the heads") as refused:
        verify(tmp_path / "odd.safetensors")
    assert refused.value.code == "manifest_invalid"
