"""The actions of the child that checks uploads. Through its process: tests/app/routes/test_groups.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from graftery.compat import verifying
from graftery.errors import GrafteryError
from graftery.module import ModuleFile
from graftery.module.protocol import ACTIONS, answer
from graftery.spec.limits import Limits
from tests.support import tones


def _saved(file: ModuleFile, folder: Path, name: str) -> str:
    file.save(folder / name)
    return str(folder / name)


def _member(folder: Path, module: ModuleFile, group: str) -> dict[str, Any]:
    request = {"path": _saved(module, folder, "module"), "files": {"group": group}}
    return verifying.member(request, Limits())


def test_a_member_is_told_what_the_groups_heads_see_in_it(tmp_path: Path) -> None:
    group = _saved(tones.group(), tmp_path, "group")
    assert _member(tmp_path, tones.member().extractor, group) == {
        "common": 1.0,
        "rotation": 1.0,
        "head": None,
        "head_chance": None,
        "common_chance": 0.5,
        "rotation_chance": 0.25,
    }
    assert _member(tmp_path, tones.member().head, group) == {
        "common": None,
        "rotation": None,
        "head": None,
        "head_chance": None,
        "common_chance": None,
        "rotation_chance": None,
    }


def test_a_damaged_file_of_the_group_is_not_the_members_fault(tmp_path: Path) -> None:
    group = Path(_saved(tones.group(), tmp_path, "group"))
    whole = group.read_bytes()
    for damaged in (whole[:-1], whole[:-4] + b"\0\0\0\1", b"", _other(tmp_path)):
        group.write_bytes(damaged)
        with pytest.raises(GrafteryError) as refused:
            _member(tmp_path, tones.member().extractor, str(group))
        assert refused.value.code == "store_corrupt"


def _other(folder: Path) -> bytes:
    return Path(_saved(tones.group(1), folder, "other")).read_bytes()


def test_a_module_that_names_no_group_is_no_member(tmp_path: Path) -> None:
    alone = tones.stating(tones.member().extractor, parents=())
    with pytest.raises(GrafteryError) as refused:
        _member(tmp_path, alone, _saved(tones.group(), tmp_path, "group"))
    assert refused.value.code == "group_mismatch"


def _odd_groups() -> dict[str, tuple[ModuleFile, str]]:
    good, x, y = tones.group(), "group.check.x", "group.check.y"
    images, labels = good.extras[x], good.extras[y]
    first = {name: value for name, value in good.extras.items() if not name.startswith("group.initial.")}

    def having(**more: Any) -> ModuleFile:
        return replace(good, extras={**good.extras, **{f"group.{name}": value for name, value in more.items()}})

    return {
        "a tensor that nothing uses": (having(other=torch.zeros(2)), "weight_unused"),
        "labels of no images": (
            replace(good, extras={name: value for name, value in good.extras.items() if name != x}),
            "weight_unused",
        ),
        "IIW without first weights": (replace(good, extras=first), "manifest_invalid"),
        "a label of no common class": (having(**{"check.y": labels + 1}), "samples_invalid"),
        "labels that are no numbers of classes": (having(**{"check.y": labels.float()}), "samples_invalid"),
        "fewer labels than images": (having(**{"check.y": labels[1:]}), "samples_invalid"),
        "images of another shape": (having(**{"check.x": images[..., 1:]}), "samples_invalid"),
        "more images than are allowed": (
            having(**{"check.x": images.repeat(13, 1, 1, 1), "check.y": labels.repeat(13)}),
            "samples_invalid",
        ),
    }


@pytest.mark.parametrize("what", list(_odd_groups()))
def test_a_group_that_members_could_not_be_checked_with_is_refused(what: str, tmp_path: Path) -> None:
    file, code = _odd_groups()[what]
    with pytest.raises(GrafteryError) as refused:
        verifying.verify({"path": _saved(file, tmp_path, "group")}, Limits())
    assert refused.value.code == code


def test_groups_and_other_files_are_verified(tmp_path: Path) -> None:
    for file in (tones.group(), tones.group(trained=False), tones.member().net):
        found = verifying.verify({"path": _saved(file, tmp_path, "file")}, Limits())
        assert found["manifest"]["kind"] == file.manifest.kind


def test_the_verifier_alone_knows_no_groups() -> None:
    """`python -m graftery.module.verify` is of the floor below."""
    assert "member" not in ACTIONS
    refused = answer('{"id": 1, "action": "member", "path": "/dev/null"}')
    assert "KeyError('member')" in refused["problem"]["message"]
