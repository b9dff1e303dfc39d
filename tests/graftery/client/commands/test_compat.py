"""`graftery compat` on the digits, as a person types it: found, train, be stopped, go on, check, measure."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graftery import load
from graftery.client.cli import COMPAT, run
from graftery.client.commands import compat_files
from graftery.compat import Group
from graftery.data import SampleSet
from graftery.module import ModuleFile
from tests.support.compatible import A, B, samples

NET = "tests.support.compatible:Net"
Call = Callable[..., tuple[int, str, str]]
INIT = ["--net", NET, "--cut", "lower", "--example", "1x8x8"]
COMMON = [word for digit in (3, 4, 5, 6) for word in ("--common", str(digit))]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _heeding() -> Iterator[None]:
    """What a shell starts with & ignores SIGINT; these tests send it to themselves."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def graftery(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(each) for each in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def _npz(path: Path, found: SampleSet, *, labels: bool = True) -> Path:
    y = {"y": found.y.numpy()} if labels and found.y is not None else {}
    np.savez(path, x=found.x.numpy(), **y)
    return path


def _training(folder: Path, group: object, out: object) -> list[object]:
    said: list[object] = ["compat", "train", "--group", group, "--net", NET, "--out", out]
    for name, classes in (("a", A), ("b", B)):
        said += ["--task", f"{name}={folder}/{name}.npz", "--test", f"{name}={folder}/{name}-test.npz"]
        said += ["--classes", f"{name}={','.join(map(str, classes))}"]
    return [*said, "--recipe", "epochs=2", "--recipe", "batch=32"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the samples of two tasks, a group, and what a joint training left in `out`."""
    folder = tmp_path_factory.mktemp("compat")
    for name, classes in (("a", A), ("b", B)):
        _npz(folder / f"{name}.npz", samples(classes, train=True, most=480))
        _npz(folder / f"{name}-test.npz", samples(classes, train=False))
    kept = samples((3, 4, 5, 6), train=False, most=80)
    _npz(folder / "check.npz", kept)
    said = ["compat", "init", folder / "group.safetensors", *INIT, "--methods", "rp,DCC,IIW", *COMMON]
    assert run([*map(str, said), "--check", str(folder / "check.npz"), "--description", "of digits"]) == 0
    assert run([str(each) for each in _training(folder, folder / "group.safetensors", folder / "out")]) == 0
    return folder


@pytest.mark.parametrize("verb", COMPAT)
def test_every_help_has_examples_that_are_this_verb_s(verb: str, graftery: Call) -> None:
    code, out, _ = graftery("compat", verb, "--help")
    assert code == 0
    assert f"graftery compat {verb}" in out.split("Examples:")[1]
    assert "--json" in out


def test_a_group_is_founded(world: Path) -> None:
    group = Group(ModuleFile.load(world / "group.safetensors"))
    assert (group.spec.methods, group.cut, group.trained) == (("RP", "DCC", "IIW"), "lower", False)
    assert dict(group.spec.common)["3"] == ("3",)
    assert group.check is not None and len(group.check) == 80
    assert group.file.manifest.description == "of digits"


def test_a_training_leaves_its_parts_and_no_checkpoint(world: Path) -> None:
    parts = {f"{name}-{part}" for name in "ab" for part in ("net", "category", "task")}
    assert {path.stem for path in (world / "out").iterdir()} == parts | {"group"}
    assert Group(ModuleFile.load(world / "out/group.safetensors")).trained


@pytest.mark.slow
def test_stopped_it_keeps_a_checkpoint_and_goes_on_to_the_same_bytes(
    world: Path, tmp_path: Path, graftery: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = _training(world, world / "group.safetensors", tmp_path / "again")
    monkeypatch.setattr(compat_files, "CHECKPOINT_S", 0.0)
    keep = compat_files._keep

    def stop_at(folder: Path, state: Any) -> None:
        keep(folder, state)
        if state.step == 20:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(compat_files, "_keep", stop_at)
    code, out, err = graftery(*line)
    assert (code, out) == (130, "")
    assert "the same command goes on from there" in err
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["checkpoint.safetensors"]

    code, _, err = graftery(*line, "--recipe", "seed=1")
    assert code == 1 and "belongs to another recipe" in err
    code, out, err = graftery(*line)
    assert code == 0 and "going on from step 20" in err
    assert "a " in out and "%" in out
    for path in (world / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    assert len(list((tmp_path / "again").iterdir())) == 7


def test_stopped_before_a_checkpoint_it_says_so(
    world: Path, tmp_path: Path, graftery: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping:
        def __enter__(self) -> Callable[[object], None]:
            return lambda _: signal.raise_signal(signal.SIGINT)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(compat_files, "training_view", Stopping)
    code, _, err = graftery(*_training(world, world / "group.safetensors", tmp_path / "out"))
    assert code == 130 and "the same command begins again" in err


def test_images_without_labels_join_as_a_feature_extractor(world: Path, tmp_path: Path, graftery: Call) -> None:
    images = _npz(tmp_path / "night.npz", samples(A, train=True, most=64), labels=False)
    line = ["--group", world / "out/group.safetensors", "--net", f"night={NET}", "--out", tmp_path / "out"]
    code, out, _ = graftery(
        "compat", "train", *line, "--incremental", "--task", f"night={images}", "--recipe", '{"epochs": 1}', "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert found["group"]["path"] is None
    assert found["members"]["night"]["files"] == {"category": str(tmp_path / "out/night-category.safetensors")}


def test_what_is_there_is_not_written_over(world: Path, graftery: Call) -> None:
    before = (world / "out/a-net.safetensors").stat().st_mtime_ns
    code, _, err = graftery(*_training(world, world / "group.safetensors", world / "out"))
    assert code == 1 and err.startswith("error[conflict]: ") and "a-net.safetensors is there already" in err
    code, _, err = graftery("compat", "init", world / "group.safetensors", *INIT, "--methods", "IIW")
    assert code == 1 and err.startswith("error[conflict]: ")
    assert (world / "out/a-net.safetensors").stat().st_mtime_ns == before


def test_a_network_at_chance_leaves_the_files_of_the_others(world: Path, tmp_path: Path, graftery: Call) -> None:
    guesses = samples(B, train=True, most=96)
    y = torch.randint(len(B), (96,), generator=torch.Generator().manual_seed(0))
    _npz(tmp_path / "b.npz", SampleSet(guesses.x, y))
    for name in ("a.npz", "a-test.npz", "b-test.npz"):
        shutil.copy(world / name, tmp_path)
    out = tmp_path / "out"
    code, said, err = graftery(*_training(tmp_path, world / "group.safetensors", out))
    assert (code, said) == (1, "") and "error[at_chance]: the network of b is right on" in err
    assert "has the other networks; train what is at chance against its group" in " ".join(err.split())
    assert {path.stem for path in out.iterdir()} == {"a-net", "a-category", "a-task", "group"}


def test_a_member_is_checked(world: Path, graftery: Call) -> None:
    group = world / "out/group.safetensors"
    code, out, _ = graftery("compat", "check", world / "out/a-category.safetensors", group)
    assert code == 0 and "head rotation" in out and "chance is 25.0%" in out
    code, out, _ = graftery("compat", "check", world / "out/b-task.safetensors", group, "--json")
    reached = json.loads(out)["reached"]
    assert code == 0 and (reached["common"], reached["rotation"]) == (None, None)
    assert reached["head"] > reached["head_chance"]
    _, out, _ = graftery("compat", "check", world / "out/b-task.safetensors", group)
    assert "this head" in out and "from the first member's features" in " ".join(out.split())
    code, out, err = graftery("compat", "check", world / "out/a-category.safetensors", world / "group.safetensors")
    assert (code, out) == (1, "") and err.startswith("error[group_mismatch]: ")


def _members(world: Path) -> list[object]:
    said: list[object] = []
    for name in "ab":
        said += ["--member", f"{name}={world}/out/{name}-category.safetensors,{world}/out/{name}-task.safetensors,"]
        said[-1] = f"{said[-1]}{world}/{name}-test.npz"
    return said


def test_the_matrix_in_three_forms(world: Path, graftery: Call) -> None:
    line = ["compat", "matrix", *_members(world), "--reestimate", world / "check.npz"]
    code, out, _ = graftery(*line, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["names"] == ["a", "b"]
    assert [found["normalised"][at][at] for at in range(2)] == pytest.approx([100, 100])
    assert found["reestimated"]["accuracy"][0][0] == found["accuracy"][0][0]
    assert found["reestimated"]["accuracy"][0][1] != found["accuracy"][0][1]
    _, out, _ = graftery(*line, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 8
    assert float(rows[1]["normalised"]) == found["normalised"][0][1]
    assert (rows[1]["extractor"], rows[1]["head"], rows[1]["reestimated"]) == ("a", "b", "no")
    _, out, _ = graftery(*line)
    assert out.count("100.0  ") + out.count("100.0\n") >= 4
    assert "chance" in out and "re-estimated" in out and f"{found['normalised'][0][1]:.1f}" in out


@pytest.mark.slow
def test_a_matrix_of_several_trainings_is_their_mean_and_deviation(world: Path, tmp_path: Path, graftery: Call) -> None:
    other = tmp_path / "other"
    assert graftery(*_training(world, world / "group.safetensors", other), "--recipe", "seed=1")[0] == 0
    tests = [word for name in "ab" for word in ("--test", f"{name}={world}/{name}-test.npz")]
    line = ["compat", "matrix", "--trained", world / "out", *tests]
    one = json.loads(graftery(*line, "--json")[1])
    assert one == json.loads(graftery("compat", "matrix", *_members(world), "--json")[1])
    line = [*line, "--trained", other]
    code, out, _ = graftery(*line, "--reestimate", world / "check.npz", "--json")
    found = json.loads(out)
    assert code == 0 and found["trainings"][0] == one and set(found) == set(found["reestimated"]) | {"reestimated"}
    cells = [each["normalised"][0][1] for each in found["trainings"]]
    assert found["normalised"]["mean"][0][1] == pytest.approx(statistics.mean(cells))
    assert found["normalised"]["deviation"][0][1] == pytest.approx(statistics.stdev(cells))
    _, out, _ = graftery(*line, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 8 and {row["trainings"] for row in rows} == {"2"}
    _, out, _ = graftery(*line)
    cell = found["normalised"]["mean"][0][1], found["normalised"]["deviation"][0][1]
    assert f"{cell[0]:.1f} ± {cell[1]:.1f}" in out and "over 2 trainings" in out


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["--trained", "out"],
        ["--test", "a=a.npz", "--test", "b=b.npz"],
        ["--trained", "out", "--trained", "out", "--test", "a=a.npz", "--test", "b=b.npz"],
        ["--trained", "out", "--test", "a=a.npz"],
        ["--trained", "out", "--member", "a=a,b,c", "--test", "a=a.npz"],
    ],
)
def test_a_matrix_is_of_members_or_of_trainings(said: list[str], graftery: Call) -> None:
    code, out, err = graftery("compat", "matrix", *said)
    assert (code, out) == (2, "") and "--" in err


def test_a_matrix_says_which_head_nothing_is_normalised_by(world: Path, tmp_path: Path, graftery: Call) -> None:
    shutil.copytree(world / "out", tmp_path / "out")
    shutil.copy(world / "a-test.npz", tmp_path)
    test = samples(B, train=False)
    assert test.y is not None
    _npz(tmp_path / "b-test.npz", SampleSet(test.x, (test.y + 1) % len(B)))
    code, out, _ = graftery("compat", "matrix", *_members(tmp_path))
    assert code == 0
    assert "b: its own network is not above chance (" in out and "a: its own" not in out
    _, out, _ = graftery("compat", "matrix", *_members(tmp_path), "--json")
    found = json.loads(out)
    assert [row[1] for row in found["normalised"]] == [None, None] and found["recombined"] is None
    assert found["normalised"][0][0] == 100


def test_a_matrix_across_groups_is_forced_or_refused(world: Path, tmp_path: Path, graftery: Call) -> None:
    """A head that says nothing of a group."""
    shutil.copytree(world / "out", tmp_path / "out")
    for name in "ab":
        shutil.copy(world / f"{name}-test.npz", tmp_path)
    head = ModuleFile.load(world / "out/a-task.safetensors")
    object.__setattr__(head, "manifest", head.manifest.model_copy(update={"parents": ()}))
    head.save(tmp_path / "out/a-task.safetensors")
    code, out, err = graftery("compat", "matrix", *_members(tmp_path))
    assert (code, out) == (1, "") and err.startswith("error[group_mismatch]: ")
    assert graftery("compat", "matrix", *_members(tmp_path), "--force")[0] == 0


def _with(world: Path, **changed: str) -> list[str]:
    """A line of `compat train` for one task, with options changed or (empty) left out."""
    options = {
        "group": f"{world}/group.safetensors",
        "net": NET,
        "out": f"{world}/other",
        "task": f"a={world}/a.npz",
        "classes": f"a={','.join(map(str, A))}",
    } | changed
    return [part for name, text in options.items() if text for part in (f"--{name.rstrip('_')}", text)]


BAD: list[tuple[dict[str, str], int, str, str]] = [
    ({"group": "nowhere.safetensors"}, 1, "not_found", "nowhere.safetensors"),
    ({"task": "a=nowhere.npz"}, 1, "not_found", "nowhere.npz"),
    ({"task": "a"}, 2, "usage", "NAME=VALUE"),
    ({"task": "../a={world}/a.npz", "classes": ""}, 1, "name_invalid", "../a"),
    ({"classes": "a=1,2,3"}, 1, "samples_invalid", "ids from 0 to 2"),
    ({"classes": ""}, 1, "samples_invalid", "it needs two"),
    ({"classes": "b=1,2"}, 2, "usage", "--classes names b"),
    ({"classes": "a=u,v,w,x,y,z,zz"}, 1, "common_classes", "has images of 0 of"),
    ({"recipe": "epochs=0"}, 1, "recipe_invalid", "epochs: 0 is not allowed: it has to be"),
    ({"recipe": "epoch=3"}, 1, "recipe_invalid", "did you mean epochs?"),
    ({"recipe": "augment.shift=99"}, 1, "recipe_invalid", "augment.shift"),
    ({"recipe": "[1]"}, 2, "usage", "there is no file"),
    ({"net": "tests.support.compatible:block"}, 2, "usage", "takes the number of logits"),
    ({"net": "tests.support.compatible:nothing"}, 2, "usage", "no attribute"),
    ({"net": f"b={NET}"}, 2, "usage", "--net names b"),
    ({"cut": "nowhere"}, 1, "shape_mismatch", "is cut at nowhere"),
    ({"test": "a={world}/a.npz"}, 1, "samples_overlap", "are in a.train"),
    ({"group": "{world}/a.npz"}, 1, "module_file_invalid", "a.npz"),
    ({"device": "foo"}, 1, "recipe_invalid", "no device 'foo'"),
]


@pytest.mark.parametrize(("changed", "code", "problem", "says"), BAD, ids=[f"{each[0]}"[:40] for each in BAD])
def test_bad_input_is_named_and_leaves_nothing(
    world: Path, graftery: Call, changed: dict[str, str], code: int, problem: str, says: str
) -> None:
    line = _with(world, **{name: text.replace("{world}", str(world)) for name, text in changed.items()})
    got, out, err = graftery("compat", "train", *line)
    assert (got, out) == (code, ""), err
    assert err.startswith(f"error[{problem}") and says in err
    assert err.count("\n") == 1
    assert not (world / "other").exists()


def test_images_of_another_shape_are_refused(world: Path, tmp_path: Path, graftery: Call) -> None:
    np.savez(tmp_path / "wide.npz", x=np.zeros((4, 1, 12, 12)), y=[0, 1, 2, 3])
    code, _, err = graftery("compat", "train", *_with(world, task=f"a={tmp_path}/wide.npz"))
    assert code == 1 and err.startswith("error[shape_mismatch]: ")


REFUSED_GROUPS: list[tuple[list[str], int, str]] = [
    (["--methods", "IWW"], 1, "recipe_invalid"),
    (["--methods", "IIW,IIW"], 1, "recipe_invalid"),
    (["--methods", "DCC", "--common", "3"], 1, "common_classes"),
    (["--methods", "DCC", "--common", "a=3,4", "--common", "b=4"], 1, "recipe_invalid"),
    (["--methods", "RP", "--cut", "lwer"], 1, "cut_not_found"),
    (["--methods", "RP", "--example", "8"], 1, ""),
    (["--methods", "RP", "--example", "1,8"], 2, "usage"),
    (["--methods", "RP", "--preprocessing", '{"means": 1}'], 2, "usage"),
    (["--methods", "RP", "--check", "nowhere.npz"], 1, "not_found"),
    (["--methods", "RP", "--check", "{world}/a.npz"], 1, "samples_invalid"),
]


def test_images_to_check_members_on_are_counted_as_the_classes_are_named(tmp_path: Path, graftery: Call) -> None:
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 2
    np.savez(tmp_path / "c.npz", x=x.numpy(), y=y.numpy())
    common = ["--common", "truck", "--common", "cat=cat,kitten"]
    said = [*INIT, "--methods", "DCC", *common, "--check", tmp_path / "c.npz"]
    code, _, err = graftery("compat", "init", tmp_path / "g.safetensors", *said)
    assert code == 0, err
    group = Group(load(tmp_path / "g.safetensors"))
    assert group.check is not None and group.check.y is not None
    names = [list(group.spec.common)[label] for label in group.check.y]
    assert names == [("truck", "cat")[label] for label in y]


@pytest.mark.parametrize(("said", "code", "problem"), REFUSED_GROUPS)
def test_a_group_that_cannot_be_is_refused(
    world: Path, tmp_path: Path, graftery: Call, said: list[str], code: int, problem: str
) -> None:
    words = [each.replace("{world}", str(world)) for each in said]
    got, out, err = graftery("compat", "init", tmp_path / "g.safetensors", *INIT, *words)
    assert (got, out) == (code, ""), err
    assert err.startswith(f"error[{problem}") and err.count("\n") == 1
    assert not (tmp_path / "g.safetensors").exists()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (["--member", "a=x,y,z"], "two networks"),
        (["--member", "a=x,y", "--member", "b=x,y,z"], "NAME=CATEGORY,TASK,TEST"),
        (["--member", "a=x,y,z", "--member", "b=x,y,z", "--csv", "--json"], "ask for one"),
    ],
)
def test_a_matrix_that_is_said_wrongly(graftery: Call, said: list[str], says: str) -> None:
    code, _, err = graftery("compat", "matrix", *said)
    assert code == 2 and says in err
