from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graftery.compat import Trained, check_member
from graftery.errors import GrafteryError
from graftery.module import ModuleFile
from graftery.spec.manifest import Parent, Preprocessing


def _stating(file: ModuleFile, **changed: object) -> ModuleFile:
    return replace(file, manifest=file.manifest.model_copy(update=changed))


def test_a_member_passes_with_what_the_groups_heads_see_in_it(trained: Trained) -> None:
    found = check_member(trained.members["a"].extractor, trained.group)
    assert found.common is not None and found.common > 0.6
    assert found.rotation is not None and found.rotation > 0.4
    assert check_member(trained.members["b"].head, trained.group).common is None


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
