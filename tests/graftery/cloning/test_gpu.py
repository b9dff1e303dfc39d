"""The same code on CUDA: a skill is learned there, the same bytes at every run, and the clone works anywhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graftery.cloning import Cloned, attach, clone, detach
from graftery.spec.recipes import CloneRecipe
from tests.support import skills

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


def _cloned(**changes: Any) -> Cloned:
    recipe = CloneRecipe(positions=("0", "1.2"), views=2, **changes)
    target = skills.net("vgg", skills.TARGET, wide=True)
    samples, wanted = skills.local(2), skills.names((5, 6))
    return clone(skills.net(), target, samples, wanted, recipe=recipe, evaluate_on=skills.judged(2), device="cuda")


@pytest.mark.parametrize("changes", [{}, {"joint": True}, {"originals": "noise"}])
def test_a_skill_is_learned_on_cuda(changes: dict[str, Any]) -> None:
    found = _cloned(**changes)
    assert found.metrics["wanted"] > 0.8
    target = skills.net("vgg", skills.TARGET, wide=True)
    assert detach(attach(target, [found.clone]), found.clone.content_digest).digest == target.digest


def test_the_same_seed_gives_the_same_bytes_on_cuda() -> None:
    assert _cloned(steps=20).clone.digest == _cloned(steps=20).clone.digest
