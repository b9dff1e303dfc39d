"""The benchmark of cloning: what is dealt, what rows learn, how cells are measured. On made-up images and tiny nets."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.cells import Cells
from benchmarks.cloning import __main__ as command
from benchmarks.cloning import tuning
from benchmarks.cloning.baselines import Setup, fisher_of, in_chunks, learned
from benchmarks.cloning.dealing import Dealer
from benchmarks.cloning.measuring import Bench, cloned, spread_rows
from benchmarks.cloning.protocol import (
    CLONING,
    EWC,
    FINE,
    HEAD,
    JOINT,
    KS,
    LWF,
    NO_HEALING,
    ROWS,
    SEEDS,
    TUNING_SEEDS,
    Cell,
    Row,
    cells,
)
from benchmarks.cloning.worlds import Cifar, absent
from benchmarks.locks import held
from graftery.cloning.judging import logits
from graftery.module import ModuleFile
from graftery.spec.recipes import CloneRecipe
from tests.support.cloning_table import RECIPE, ROW, SHORT, Stripes, benched, dealt

BASELINES = [row for row in ROWS if row.kind != "clone"]


pytestmark = pytest.mark.slow  # most of them train


@pytest.fixture
def dealer(tmp_path: Path) -> Dealer:
    return dealt(tmp_path / "nets")


@pytest.fixture
def bench(dealer: Dealer) -> Bench:
    return benched(dealer)


def test_every_cell_has_a_key_of_its_own() -> None:
    keys = [cell.key for cell in cells(["digits", "cifar10"])]
    assert len(set(keys)) == len(keys) == 2 * len(ROWS) * 25


def test_nothing_is_tuned_on_seeds_that_are_reported() -> None:
    assert not set(TUNING_SEEDS) & set(SEEDS)


def test_rows_with_a_keep_of_their_own_are_not_the_default() -> None:
    assert all(row.changes["keep"] != CloneRecipe().keep for row in ROWS if "keep" in row.changes)


def test_classes_are_dealt_once_and_the_local_set_is_the_same_for_every_k(dealer: Dealer) -> None:
    one, five = (dealer.problem(0, k, "test") for k in (1, 5))
    assert sorted(one.source.known + one.target.known) == list(range(10))
    assert one.wanted == five.wanted[:1]
    assert torch.bincount(five.local.y).tolist() == [20] * 5 + [50] * 5
    assert torch.equal(one.local.x, five.local.x[: len(one.local)])
    assert torch.bincount(one.measured.y).tolist() == [6] * 6
    shown = {tuple(image.tolist()) for image in five.local.x.flatten(1)}
    assert shown <= {tuple(image.tolist()) for image in Stripes().raw("train")[0].flatten(1)}


def test_another_seed_deals_other_classes(dealer: Dealer) -> None:
    assert dealer.skill(0, "source").known != dealer.skill(1, "source").known


def test_nets_are_trained_once(dealer: Dealer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dealer.skill(0, "target").file.content_digest
    monkeypatch.setattr("benchmarks.cloning.dealing.train", None)
    assert dealt(dealer.folder).skill(0, "target").file.content_digest == first


def test_nets_that_learned_otherwise_are_trained_again(dealer: Dealer) -> None:
    first = dealer.skill(0, "target").file.content_digest
    longer = dealt(dealer.folder, replace(SHORT, steps=4)).skill(0, "target").file.content_digest
    assert longer != first
    path = dealer.folder / "digits-0-target.pt"
    torch.save(torch.load(path, weights_only=True)["state"], path)  # as it was before nets said how they learned
    assert dealt(dealer.folder).skill(0, "target").file.content_digest == first


def test_nets_learn_in_the_protocol_s_precision_on_any_processor(
    dealer: Dealer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dealer.skill(0, "target").file.content_digest
    for feature in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, feature, lambda: True)
    assert replace(dealer, folder=tmp_path / "b", _skills={}).skill(0, "target").file.content_digest == first


def test_nets_that_another_process_trains_are_left_to_it_and_waited_for(
    dealer: Dealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks are those of files that were opened: threads stand for processes."""
    streams: list[str] = []

    def slowly(*_: Any, stream: str) -> None:
        streams.append(stream)
        time.sleep(0.3)

    monkeypatch.setattr("benchmarks.cloning.dealing.train", slowly)
    with held(dealer.folder / "digits-0-source.lock"):
        dealer.train([0])
    assert streams == ["target.0"]
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda each: each.skill(0, "source"), [dealt(dealer.folder), dealt(dealer.folder)]))
    assert streams == ["target.0", "source.0"]
    assert made[0].file.content_digest == made[1].file.content_digest


@pytest.mark.parametrize("row", BASELINES, ids=lambda row: row.name)
def test_a_baseline_gives_old_and_new_logits_and_leaves_the_target_alone(dealer: Dealer, row: Row) -> None:
    problem = dealer.problem(0, 2, "test")
    before = {name: value.clone() for name, value in problem.target.net.state_dict().items()}
    made = learned(row.name, problem, Setup({"rate": 1e-2, "strength": 1.0}, SHORT, steps=3))
    assert in_chunks(made.classify, problem.measured.x).shape == (len(problem.measured), 7)
    assert made.added > 0
    now = problem.target.net.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in before.items())


def test_the_same_seed_learns_the_same(dealer: Dealer) -> None:
    problem, setup = dealer.problem(0, 2, "test"), Setup({"rate": 1e-2, "strength": 1.0}, SHORT, steps=3)
    one, other = (in_chunks(learned(LWF, problem, setup).classify, problem.measured.x) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", [LWF, EWC])
def test_what_holds_the_old_parameters_holds_them(dealer: Dealer, name: str) -> None:
    """The stronger it holds, the nearer the old logits stay to the target's."""
    problem = dealer.problem(0, 2, "test")
    x, old = problem.measured.x, in_chunks(problem.target.net, problem.measured.x)
    off = []
    for strength in (0.0, 1e4):
        made = learned(name, problem, Setup({"rate": 1e-3, "strength": strength}, SHORT, steps=30))
        off.append(float((in_chunks(made.classify, x)[:, :5].softmax(1) - old.softmax(1)).abs().mean()))
    assert off[1] < off[0]


def test_fisher_is_the_mean_of_squared_gradients(dealer: Dealer) -> None:
    """Of the classifier's bias, sum over c of p_c (1[j = c] - p_j)^2 = p_j (1 - p_j)."""
    net, x = dealer.skill(0, "target").net, dealer.problem(0, 1, "test").local.x[:7]
    p = net(x).softmax(1).detach()
    torch.testing.assert_close(fisher_of(net, x)["classifier.bias"], (p * (1 - p)).mean(0))


def test_a_clone_is_measured_and_its_target_is_untouched(dealer: Dealer) -> None:
    found = cloned(dealer.problem(0, 2, "test"), ROW[CLONING], None)
    assert found["untouched"] is True
    assert found["position"] == "body.2"
    assert found["mean"] == pytest.approx((found["original"] + found["wanted"]) / 2)
    assert 0 < found["added"] < 1
    assert {"masked_wanted", "masked_unwanted"} <= found.keys()


def test_what_nets_say_of_a_split_is_made_once_for_all_cells_of_a_seed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = bench.problem(0, 2, "test")
    own = problem.measured.y < 5
    assert torch.equal(problem.before()[own], in_chunks(problem.target.net, problem.measured.x)[own])
    bench.dealer._skills.clear()
    asked: list[tuple[str, int]] = []

    def said(file: ModuleFile, x: Tensor) -> Tensor:
        asked.append((file.content_digest, len(x)))
        return logits(file, x)

    monkeypatch.setattr("benchmarks.cloning.dealing.logits", said)
    for name, k in ((FINE, 1), (HEAD, 2), (CLONING, 1), (CLONING, 2)):
        bench.measure(Cell("digits", k, ROW[name], 0))
    target, source = problem.target.file.content_digest, problem.source.file.content_digest
    assert sorted(asked) == sorted([(target, 30), (source, 30)])
    bench.problem(0, 1, "validation").before()
    assert asked[2:] == [(target, 20)]


def test_a_clone_that_is_refused_is_a_cell_that_says_so(bench: Bench) -> None:
    strict = RECIPE.model_copy(update={"tolerance": 0, "keep": 0.03})
    cell = replace(bench, dealer=replace(bench.dealer, recipe=strict)).measure(Cell("digits", 5, ROW[CLONING], 1))
    assert cell.keys() >= {"seconds", "classes"}
    assert cell["refused"] == "localization_failed" and "mean" not in cell


def test_what_is_left_without_healing_is_measured_however_little_it_is(bench: Bench) -> None:
    strict = RECIPE.model_copy(update={"tolerance": 0, "keep": 0.03})
    bench = replace(bench, dealer=replace(bench.dealer, recipe=strict))
    with_healing, without = (bench.measure(Cell("digits", 5, ROW[name], 1)) for name in (CLONING, NO_HEALING))
    assert with_healing["refused"] == "localization_failed"
    assert "mean" in without
    recipe = CloneRecipe.model_validate(ROW[NO_HEALING].changes)
    assert recipe.healing_steps == 0


def test_rows_that_are_compared_bit_by_bit_are_of_all_classes() -> None:
    labels = torch.arange(6).repeat_interleave(1000)
    drawn = spread_rows(len(labels), 256)
    assert len(set(drawn.tolist())) == 256
    assert min(torch.bincount(labels[drawn])) > 40
    assert spread_rows(300, 256)[-1] == 299
    assert spread_rows(7, 256).tolist() == list(range(7))


def test_the_joint_training_has_no_choice_and_is_no_shorter_than_a_net_s(bench: Bench) -> None:
    cell = bench.measure(Cell("digits", 1, ROW[JOINT], 0))
    assert "mean" in cell and "choice" not in cell
    assert Cifar.together == Cifar.schedule


def test_a_baseline_is_measured_with_what_was_chosen(bench: Bench) -> None:
    cell = bench.measure(Cell("digits", 1, ROW[FINE], 0))
    assert cell["choice"] == {"rate": 1e-3, "strength": 1.0}
    assert cell["added"] == pytest.approx(129 / 17285, rel=0.02)


def test_worlds_without_data_say_what_they_need(tmp_path: Path) -> None:
    assert absent("digits", None, tmp_path, None) is None
    assert "--data" in str(absent("cifar10", None, tmp_path, None))
    assert "--mnist" in str(absent("mnist", None, tmp_path, tmp_path))


def test_the_command_measures_what_is_not_there_and_writes(
    dealer: Dealer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "world", lambda *_: Stripes())
    monkeypatch.setattr(
        command, "quick", lambda _: Bench(dealer, steps=2, tuning_seeds=(100,), tuning_ks=(1,), trials=1)
    )
    asked = ["--quick", "--world", "digits", "--k", "1", "--rows", CLONING, FINE, "--scratch", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["cloning", *asked])
    command.main()
    kept = Cells(tmp_path / "quick/cloning.json", "", RECIPE)
    assert [cell["row"] for cell in kept] == [CLONING, FINE]
    assert set(tuning.chosen(kept.facts, "digits")) == {FINE}
    assert "| **cloning** |" in (tmp_path / "quick/cloning.md").read_text()
    monkeypatch.setattr(Bench, "measure", None)
    command.main()


def test_the_cells_that_are_asked_for() -> None:
    wanted = argparse.Namespace(seeds=[3], k=None, rows=[HEAD], quick=False)
    assert [cell.key for cell in command.wanted_cells(wanted, "digits")] == [f"digits/{k}/{HEAD}/3" for k in KS]
