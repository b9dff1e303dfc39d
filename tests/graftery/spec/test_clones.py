"""Requests for clones, and what networks with clones state."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from graftery.cloning import attach
from graftery.module.joining import join
from graftery.spec.clones import CloneRequest, ClonesRequest
from graftery.spec.cloning import whole_manifest
from graftery.spec.recipes import CloneRecipe
from tests.support import clones

ASKED: dict[str, Any] = {"name": "owl", "source": "birds", "target": "animals", "want": ["owl"], "samples": "few"}


def test_a_network_states_what_its_joined_file_states() -> None:
    category, task = clones.animals()
    target = join({"category": category, "task": task})
    more = [clones.made(), clones.made(("jay", "wren"))]
    for added in ([], more[:1], more):
        file = attach(target, added) if added else target
        stated = whole_manifest(category.manifest, task.manifest, [each.manifest for each in added])
        assert stated.outputs == file.manifest.outputs
        assert (stated.input, stated.preprocessing) == (file.manifest.input, file.manifest.preprocessing)
    assert stated.outputs["is"].class_names == ("cat", "dog", "owl", "jay", "wren")


@pytest.mark.parametrize(
    "change",
    [
        {"want": []},
        {"want": ["owl", "owl"]},
        {"want": [""]},
        {"alias": "stable"},
        {"force": True},
        {"recipe": {"keep": 2}},
    ],
)
def test_what_is_no_request(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CloneRequest.model_validate({**ASKED, **change})


def test_what_is_one() -> None:
    assert CloneRequest.model_validate(ASKED).recipe.keep == CloneRecipe().keep
    CloneRequest.model_validate({**ASKED, "network": "more", "alias": "stable"})
    ClonesRequest.model_validate({"clones": ["owl", "jay:2"]})
    for wrong in ([], ["owl", "owl"], ["owl"] * 65):
        with pytest.raises(ValidationError):
            ClonesRequest.model_validate({"clones": wrong})
