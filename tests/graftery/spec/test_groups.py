from __future__ import annotations

import pytest

from graftery.errors import Misfit
from graftery.spec.groups import check_one_group, group_of, normalised
from graftery.spec.manifest import Manifest


def _of(*groups: str) -> Manifest:
    spec = {"dtype": "float32", "shape": ["N", 4]}
    parents = [{"role": "group", "digest": group * 64} for group in groups]
    parents += [{"role": "teacher", "digest": "f" * 64}]
    return Manifest.model_validate({"kind": "task", "input": spec, "outputs": {"is": spec}, "parents": parents})


def test_a_module_names_one_group_or_none() -> None:
    assert group_of(_of("a")) == "a" * 64
    assert group_of(_of()) is None
    with pytest.raises(Misfit) as refused:
        group_of(_of("a", "b"))
    assert refused.value.code == "group_mismatch"


@pytest.mark.parametrize(("ours", "theirs"), [("a", "b"), ("a", ""), ("", "b"), ("", "")])
def test_two_groups_have_to_be_forced(ours: str, theirs: str) -> None:
    with pytest.raises(Misfit) as refused:
        check_one_group(_of(*ours), _of(*theirs))
    assert refused.value.code == "group_mismatch"
    assert check_one_group(_of(*ours), _of(*theirs), force=True) is False
    assert check_one_group(_of("a"), _of("a")) is True


def test_the_normalised_figure() -> None:
    assert normalised(0.9, 0.9, 0.5, 100) == 100
    assert normalised(0.5, 0.9, 0.5, 100) == 0
    assert normalised(0.7, 0.9, 0.5, 100) == pytest.approx(50)
    assert normalised(0.4, 0.9, 0.5, 100) == pytest.approx(-25)
    assert normalised(0.7, 0.5, 0.5, 100) is None


def test_at_or_below_chance_there_is_nothing_to_hold_it_against() -> None:
    assert normalised(0.3, 0.075, 0.525, 40) is None
    assert normalised(0.5, 0.54, 0.5, 40) is None, "within two standard errors"
    assert normalised(0.5, 0.54, 0.5, 4000) == 0
