"""The applications, as a reader would run them, on few digits: that they run, go on, and write what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.compat import transfer
from examples.compat.__main__ import main
from examples.compat.applications import APPLICATIONS
from examples.compat.nets import CUT, design, from_weights
from examples.compat.nets import Plain as PlainNet
from examples.compat.shifts import SHIFTS
from examples.compat.worlds import digits

ROOT = Path(__file__).resolve().parents[3]


def _line(out: Path, *names: str) -> list[str]:
    return ["-m", "examples.compat", *names, "--world", "digits", "--quick", "--threads", "1", "--out", str(out)]


@pytest.mark.slow
def test_all_of_them_write_a_page_with_their_tables_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [sys.executable, *_line(tmp_path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "compat-applications.md").read_text()
    for name, of in APPLICATIONS.items():
        (run,) = json.loads((tmp_path / f"compat-applications-{name}.json").read_text())["cells"].values()
        assert of.protocol in page
        assert f"compat-applications-{name}-the-digits-quick.svg" in page
        assert (tmp_path / f"compat-applications-{name}-the-digits-quick.svg").read_text().count("<path") > 10
        for cell in run["cells"]:
            assert set(cell["reached"]) == set(of.rows)
            assert all(0 <= share <= 1 for share in cell["reached"].values())
            assert cell["case"] in page
    shifted = json.loads((tmp_path / "compat-applications-adaptation.json").read_text())["cells"]
    (run,) = shifted.values()
    plain = run["cells"][0]["reached"]["plain images"]
    assert {cell["case"] for cell in run["cells"]} == set(SHIFTS)
    assert plain > 0.5
    assert any(cell["reached"]["source alone"] < plain - 0.2 for cell in run["cells"])

    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    monkeypatch.setattr(sys, "argv", _line(tmp_path, "transfer")[1:])
    main()
    assert "seed 0" not in capsys.readouterr().out
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_an_application_that_is_not_there_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", _line(tmp_path, "adaption")[1:])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "there is no application adaption" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_keeps_shape_and_range_and_changes_images(name: str) -> None:
    for shape in ((4, 3, 32, 32), (4, 1, 8, 8)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        y = SHIFTS[name](x)
        assert y.shape == x.shape
        assert float(y.min()) >= 0 and float(y.max()) <= 1
        assert float((y - x).abs().mean()) > 0.05


def test_teams_share_no_image_and_none_is_a_test_image() -> None:
    world = digits(quick=True)
    shares = [world.raw("train", world.classes, share).x for share in range(3)]
    every = torch.cat([*shares, world.raw("test", world.classes).x])
    assert [len(share) for share in shares] == [260, 260, 260]
    assert len(every.flatten(1).unique(dim=0)) == len(every)


def test_a_share_that_would_be_short_is_no_share() -> None:
    world = digits(quick=True)
    with pytest.raises(ValueError, match="too few for 4 shares of 26"):
        world.raw("train", world.classes, 3)


def test_a_look_at_a_net_is_with_batch_norms_of_the_images_and_leaves_it_as_it_is() -> None:
    world = digits(quick=True)
    net = design(PlainNet, 1, 8, 0).net(10)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = world.samples("train", world.classes).x
    seen = transfer.settled(net, x)
    assert not seen.training
    batch = seen.lower[0](x)  # type: ignore[index, operator]
    torch.testing.assert_close(seen.lower[1].running_mean, batch.mean((0, 2, 3)))  # type: ignore[index, union-attr]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_steps_that_a_beginning_saves_are_told() -> None:
    def cell(*shares: float) -> list[dict[str, Any]]:
        return [{"reached": dict(zip(transfer.ROWS, shares, strict=True))}]

    cases = {
        "early": cell(0.1, 0.5, 0.7, 0.8, 0.8, 0.8, 0.8),
        "never": cell(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1),
        "from nothing": cell(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.6),
        "from nothing, slower": cell(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2),
    }
    said = transfer.remark(cases)
    assert "at 60.0, where first weights are after 200: early: 10; never: not reached; from nothing: 200" in said


def test_the_architectures_agree_at_the_cut() -> None:
    world = digits(quick=True)
    x = torch.rand(2, 1, 8, 8)
    shapes = {each.split(10, 0, "test").extractor(x).shape for each in (world.plain, world.residual)}
    assert shapes == {(2, 16, 8, 8)}
    small, large = (design(kind, 3, 16, 2) for kind in (world.plain.net.func, world.residual.net.func))  # type: ignore[attr-defined]
    shapes = {each.split(10, 0, "test").extractor(torch.rand(2, 3, 32, 32)).shape for each in (small, large)}
    assert shapes == {(2, 32, 8, 8)} and small.cut == CUT


def test_a_net_begins_with_all_weights_or_not_at_all() -> None:
    built = design(PlainNet, 1, 8, 0)
    weights = dict(built.net(10).state_dict())
    same = from_weights(built, weights, 10).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    weights.pop("last.bias")
    with pytest.raises(ValueError, match=r"last\.bias"):
        from_weights(built, weights, 10)
