from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import permutations

import pytest
import torch
from torch import nn

from graftery.cloning import attach, detach
from graftery.cloning.attaching import opened
from graftery.errors import Misfit
from graftery.module import ModuleFile, cut, trace, verify
from graftery.module.check import CLONE_OLD as OLD
from graftery.spec.manifest import CloneSpec, OutputMeaning, Parent
from tests.support import skills

TARGET = ("vgg", skills.TARGET)


def _target() -> ModuleFile:
    return skills.raw("vgg", skills.TARGET, wide=True)


@cache
def _clone(position: str, classes: tuple[str, ...], seed: int = 0) -> ModuleFile:
    """A clone with random weights: what it says does not matter here."""
    torch.manual_seed(seed)
    lower, _ = cut(_target(), position)
    channels, height, width = lower.extras["probe.y"].shape[1:]
    net = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, len(classes)))
    meaning = {"digit": OutputMeaning(semantics="classification", class_names=classes)}
    file = trace(net.eval(), lower.extras["probe.y"], kind="task", outputs=meaning)
    spec = CloneSpec(
        target=_target().content_digest,
        source="0" * 64,
        position=position,
        origin=position,
        keep=1,
        classes=classes,
    )
    manifest = file.manifest.model_copy(update={"kind": "clone", "clone": spec})
    width = int(_target().weights["1.8.weight"].shape[1])
    return replace(file, manifest=manifest, extras={**file.extras, OLD: torch.randn(len(classes), width)})


CLONES = (("0", ("a", "b")), ("1.2", ("c",)), ("0.2", ("d", "e", "f")))


def _clones() -> list[ModuleFile]:
    return [_clone(position, classes, index) for index, (position, classes) in enumerate(CLONES)]


def test_the_targets_own_logits_are_the_same_bits() -> None:
    x = skills.judged().x[:16]
    with torch.no_grad():
        before, after = _target().net()(x), attach(_target(), _clones()).net()(x)
    assert after.shape == (16, 5 + 6)
    assert torch.equal(after[:, :5], before)
    assert len(after.unique(dim=1).T) == 11


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_detached_in_any_order_the_target_is_left_to_the_digest(order: tuple[int, ...]) -> None:
    clones = _clones()
    net = attach(_target(), clones)
    left = list(range(3))
    for at in order:
        net = detach(net, clones[at].content_digest)
        left.remove(at)
        assert net.digest == attach(_target(), [clones[each] for each in left]).digest
    assert net.digest == _target().digest


def test_one_after_the_other_is_all_at_once() -> None:
    first, second, third = _clones()
    assert attach(attach(attach(_target(), [first]), [second]), [third]).digest == attach(_target(), _clones()).digest


def test_a_net_with_clones_survives_its_file(tmp_path: object) -> None:
    path = f"{tmp_path}/attached"
    made = attach(_target(), _clones())
    made.save(path)
    assert verify(path).outputs["digit"].shape == ("N", 11)
    bare, inside = opened(ModuleFile.load(path))
    assert bare.digest == _target().digest
    assert [fragment.classes for fragment in inside] == [classes for _, classes in CLONES]


def test_weights_are_shared_with_the_target() -> None:
    made, target = attach(_target(), _clones()), _target()
    assert all(made.weights[name] is weight for name, weight in target.weights.items())


def _refused(target: ModuleFile, clones: list[ModuleFile]) -> Misfit:
    with pytest.raises(Misfit) as caught:
        attach(target, clones)
    return caught.value


def test_a_class_is_there_once() -> None:
    clone = _clone("0", ("a", "b"))
    assert _refused(_target(), [clone, _clone("1.2", ("b",))]).code == "class_known"
    assert _refused(_target(), [_clone("0", ("digit 3",))]).code == "class_known"


def test_another_target_is_refused() -> None:
    changed = replace(
        _target(), weights={**_target().weights, "1.8.bias": _target().weights["1.8.bias"] + torch.tensor(1e-6)}
    )
    refused = _refused(changed, [_clone("0", ("a", "b"))])
    assert refused.code == "target_changed"
    assert "clone again" in str(refused)


def test_a_position_that_is_none_is_refused() -> None:
    clone = _clone("0", ("a", "b"))
    spec = clone.manifest.clone
    assert spec is not None
    moved = spec.model_copy(update={"position": "9.9"})
    assert (
        _refused(_target(), [replace(clone, manifest=clone.manifest.model_copy(update={"clone": moved}))]).code
        == "position_invalid"
    )
    moved = spec.model_copy(update={"position": "1.2"})
    elsewhere = replace(clone, manifest=clone.manifest.model_copy(update={"clone": moved}))
    assert _refused(_target(), [elsewhere]).code == "shape_mismatch"


@pytest.mark.parametrize("old", [None, torch.zeros(2, 3), torch.zeros(1, 144)])
def test_what_is_added_of_the_last_features_has_to_fit(old: torch.Tensor | None) -> None:
    clone = _clone("0", ("a", "b"))
    extras = {name: value for name, value in clone.extras.items() if name != OLD}
    extras |= {} if old is None else {OLD: old}
    assert _refused(_target(), [replace(clone, extras=extras)]).code == "shape_mismatch"


def test_what_is_no_clone_is_neither_attached_nor_detached() -> None:
    assert _refused(_target(), [skills.raw()]).code == "kind_mismatch"
    for said in ("0" * 64, "", _clone("0", ("a", "b")).content_digest[:11]):
        with pytest.raises(Misfit, match="no clone") as caught:
            detach(attach(_target(), [_clone("0", ("a", "b"))]), said)
        assert caught.value.code == "kind_mismatch"


def test_a_target_without_names_of_classes_has_none_afterwards() -> None:
    named = _target()
    outputs = {"digit": named.manifest.outputs["digit"].model_copy(update={"class_names": None})}
    target = replace(named, manifest=named.manifest.model_copy(update={"outputs": outputs}))
    one, two = _clone("0", ("seven",)), _clone("0", ("eight",), 1)
    made = attach(target, [one, two])
    assert made.manifest.outputs["digit"].class_names == (*(f"class {at}" for at in range(5)), "seven", "eight")
    less = detach(made, one.content_digest)
    assert attach(target, [two]).digest == less.digest
    assert detach(less, two.content_digest).digest == target.digest


def test_weights_that_are_there_under_another_name_are_refused() -> None:
    one = _clone("0", ("seven",))
    other = replace(one, manifest=one.manifest.model_copy(update={"clone": _spec_of(one, ("eight",))}))
    assert one.content_digest == other.content_digest
    with pytest.raises(Misfit) as caught:
        attach(_target(), [one, other])
    assert caught.value.code == "class_known"


def _spec_of(clone: ModuleFile, classes: tuple[str, ...]) -> CloneSpec:
    assert clone.manifest.clone is not None
    return clone.manifest.clone.model_copy(update={"classes": classes})


def test_a_file_that_says_it_has_clones_and_has_none_is_refused() -> None:
    parents = (Parent(role="clone", digest="a" * 64),)
    file = replace(_target(), manifest=_target().manifest.model_copy(update={"parents": parents}))
    with pytest.raises(Misfit) as caught:
        attach(file, [_clone("0", ("seven",))])
    assert caught.value.code == "kind_mismatch"
