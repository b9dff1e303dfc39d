from __future__ import annotations

from graftery.client.quality import metrics_entries


def test_metrics_of_any_depth_are_lines_by_group() -> None:
    metrics = {"labels": 0, "adapter": {"accuracy": 0.98125, "by_class": {"yes": 0.5}}, "teacher": None}
    assert metrics_entries(metrics) == [
        ("metrics", "labels 0"),
        ("adapter", "accuracy 0.9812"),
        ("adapter by_class", "yes 0.5"),
    ]


def test_intervals_stand_beside_their_numbers_and_estimates_apart() -> None:
    metrics = {
        "adapter": {"accuracy": 0.95, "auc": 0.99},
        "identity": None,
        "teacher": {"accuracy": 0.96, "auc": 0.99},
        "adapter_interval": {"accuracy": [0.93, 0.97]},
        "identity_interval": None,
        "teacher_interval": {"accuracy": [0.94, 0.98]},
        "adapter_minus_teacher_interval": {"accuracy": [-0.015, 0.005]},
        "evaluated": {"samples": 400, "resamples": 1000, "level": 0.95},
        "agreement": {"kappa": 0.9, "count": 512.0},
    }
    assert metrics_entries(metrics) == [
        ("measured", "on 400 samples; in brackets 95% of 1000 resamples, no promise for other samples"),
        ("adapter", "accuracy 0.95 [0.93, 0.97]  auc 0.99"),
        ("teacher", "accuracy 0.96 [0.94, 0.98]  auc 0.99"),
        ("adapter minus teacher", "accuracy -0.01 [-0.015, 0.005]"),
        ("agreement", "kappa 0.9  count 512  (with the teacher, on noise; a flag, not an accuracy)"),
    ]


def test_an_agreement_that_is_not_known_says_why() -> None:
    shown = metrics_entries({"agreement": {"kappa": None, "count": 512.0, "reason": "nothing to compare"}})
    assert shown == [
        ("agreement", "not known: nothing to compare  (with the teacher, on noise; a flag, not an accuracy)")
    ]


def test_a_recombination_says_what_it_rests_on() -> None:
    metrics = {
        "group": "ab" * 32,
        "recombined": {"accuracy": 0.8},
        "own": {"accuracy": 0.9},
        "recombined_interval": {"accuracy": [0.7, 0.85]},
        "own_interval": {"accuracy": [0.85, 0.95]},
        "recombined_minus_own_interval": {"accuracy": [-0.15, -0.05]},
        "chance": 0.5,
        "normalised": 75.0,
        "evaluated": {"samples": 40, "resamples": 1000, "level": 0.95},
        "evaluated_on": "few:1",
        "own_category": None,
    }
    assert metrics_entries(metrics) == [
        ("group", "sha256:abababababab, which both modules name"),
        ("normalised", "75.0  (100: as good as on its own category module; 0: chance, 0.5)"),
        ("metrics", "evaluated_on few:1"),
        ("measured", "on 40 samples; in brackets 95% of 1000 resamples, no promise for other samples"),
        ("recombined", "accuracy 0.8 [0.7, 0.85]"),
        ("own", "accuracy 0.9 [0.85, 0.95]"),
        ("recombined minus own", "accuracy -0.1 [-0.15, -0.05]"),
    ]


def test_what_was_not_measured_is_not_promised() -> None:
    [(_, text)] = metrics_entries({"group": "ab" * 32})
    assert text == "sha256:abababababab, which both modules name; how well they recombine was not measured"


def test_a_forced_composition_shows() -> None:
    [(label, text)] = metrics_entries({"across_groups": True})
    assert label == "group" and str(text).startswith("FORCED ACROSS GROUPS")
    assert metrics_entries({"across_groups": True, "chance": 0.5, "normalised": None})[1] == ("chance", "0.5")
    at_chance = metrics_entries({"chance": 0.525, "normalised": None, "own": {"accuracy": 0.075}})
    assert at_chance[0] == ("normalised", "none: on its own category module it is not above chance, 0.525")


def test_what_a_group_sees_in_a_member_and_how_long_a_training_was() -> None:
    assert metrics_entries({"group": {"common": 0.75, "rotation": None}}) == [
        ("group", "tried on its images: common 0.75")
    ]
    assert metrics_entries({"group": {"common": None, "rotation": None}}) == [
        ("group", "stated, and fits; nothing of it was tried")
    ]
    assert metrics_entries({"steps": 270, "agreement": None}) == [("metrics", "steps 270")]
