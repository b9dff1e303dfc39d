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
