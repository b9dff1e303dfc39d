"""The study of what moves a clone's accuracy. On made-up images and tiny nets."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.cells import Cells, machine
from benchmarks.cloning import __main__ as command
from benchmarks.cloning import study
from benchmarks.cloning.measuring import Bench
from benchmarks.cloning.protocol import CLONING, LWF, SEEDS, TUNING_KS
from benchmarks.cloning.study import VARIANTS, Trial, Variant, page, trials
from graftery.spec.recipes import CloneRecipe
from tests.support.cloning_table import RECIPE, ROW, benched, dealt


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return benched(dealt(tmp_path / "nets"))


def _cell(trial: Trial, mean: float) -> dict[str, object]:
    return {**trial.where, "mean": mean, "wanted": mean, "original": mean, "changed": 0.1}


def test_every_trial_has_a_key_of_its_own_and_none_is_of_a_seed_that_is_reported() -> None:
    every = list(trials(study.WORLDS))
    assert len({trial.key for trial in every}) == len(every) == 2 * 2 * len(TUNING_KS) * len(VARIANTS)
    assert not {trial.seed for trial in every} & set(SEEDS)


def test_every_change_is_one_of_the_recipe() -> None:
    for variant in VARIANTS:
        CloneRecipe.model_validate({**CloneRecipe().model_dump(), **variant.changes})
        assert variant.row == CLONING or variant.row in ROW
        assert variant.row == CLONING or not variant.changes, "a baseline has no recipe"


def test_the_page_has_a_line_a_variant_and_says_what_is_missing() -> None:
    every = [trial for trial in trials(["digits"]) if trial.k == 5]
    found = [_cell(trial, 0.5 + 0.1 * (trial.seed == 101)) for trial in every]
    text = page(found, {"machine": machine()}, 3)
    assert "**3 cells of the protocol are not measured yet**" in text
    assert "5 wanted classes" in text
    assert "CIFAR-10" not in text
    assert text.count("| 55.0 ± 7.1 | 55.0 ± 7.1 | 55.0 ± 7.1 | 10.0 ± 0.0 | - |") == len(VARIANTS)


def test_a_refused_clone_is_counted_in_its_line() -> None:
    one, two = (Trial("digits", VARIANTS[0], 1, seed) for seed in (100, 101))
    text = page([_cell(one, 0.5), {**two.where, "refused": "localization_failed"}], {"machine": machine()}, 0)
    assert "| 50.0 | 50.0 | 50.0 | 10.0 |" in text
    assert "2 (1 refused)" in text


@pytest.mark.slow
def test_a_trial_is_measured_on_validation_images_with_its_change(bench: Bench) -> None:
    told = Trial("digits", Variant("all", changes={"keep": 1.0}), 2, 100).measure(bench)
    assert {round(4 * 2 * told[name], 6) % 1 for name in ("wanted", "masked_wanted")} == {0}, (
        "four images of each class"
    )
    assert told["wanted"] <= min(told["wanted_found"], told["wanted_within"])
    assert Trial("digits", VARIANTS[0], 2, 100).measure(bench)["added"] < told["added"]


@pytest.mark.slow
def test_a_baseline_learns_with_what_was_chosen_on_as_many_images_as_its_line_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    learned = Bench.learned

    def watched(self: Bench, row: object, problem: object, choice: object) -> object:
        seen.append((Counter(problem.local.y.tolist()), choice))  # type: ignore[attr-defined]
        return learned(self, row, problem, choice)  # type: ignore[arg-type]

    monkeypatch.setattr(Bench, "learned", watched)
    for times in (1, 2):
        Trial("digits", Variant("lwf", LWF, times=times), 1, 100).measure(bench)
    (few, choice), (more, _) = seen
    assert choice == bench.chosen[LWF]
    assert (few[0], few[5]) == (20, 50)
    assert (more[0], more[5]) == (40, 60), "as far as there are"


@pytest.mark.slow
def test_a_clone_that_is_refused_is_a_trial_that_says_so(bench: Bench) -> None:
    strict = replace(bench, dealer=replace(bench.dealer, recipe=RECIPE.model_copy(update={"tolerance": 0.0})))
    variant = Variant("little", changes={"keep": 0.01, "healing_steps": 0, "localization_steps": 0})
    assert Trial("digits", variant, 2, 100).measure(strict) == {"refused": "localization_failed"}


@pytest.mark.slow
def test_the_command_measures_the_trials_and_goes_on(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "bench_of", lambda *_: bench)
    monkeypatch.setattr(
        study, "VARIANTS", (VARIANTS[0], *(each for each in VARIANTS if each.row == LWF and each.times == 1))
    )
    monkeypatch.setattr(
        sys, "argv", ["bench", "--world", "digits", "--study", "--out", str(tmp_path), "--seeds", "100"]
    )
    command.main()
    kept = Cells(tmp_path / "cloning-study.json", study.COMMAND, RECIPE)
    assert kept.count == 2 * len(TUNING_KS)
    assert "fine-tuning + LwF" in (tmp_path / study.PAGE).read_text()
    assert not (tmp_path / "cloning.md").exists()
    monkeypatch.setattr(Trial, "measure", lambda *_: pytest.fail("it was measured already"))
    command.main()
