"""One category under two tasks, asked for at once, over real processes: both jobs done, both networks answer."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
import torch

from graftery.errors import Conflict
from tests.support.files import CUT, teacher
from tests.support.service import Service

pytestmark = [pytest.mark.trips, pytest.mark.xdist_group("trips")]
RECIPE = {"steps": 20, "batch": 8, "sources": ["noise"]}
ASKED = {"name": "cat-here", "category": "cat", "task": ["all-is", "all-size"], "recipe": RECIPE}


def test_one_category_under_two_tasks(service: Service) -> None:
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with service.client() as client:
        client.push_teacher("all", teacher(("is", "size"), seed=1), cut=CUT)
        client.push_teacher("cat", teacher(("is", "size"), seed=2), cut=CUT)
        client.push_teacher("cow", teacher(("is",), seed=3), cut=CUT)
        client.push_samples("measured-on", x, torch.arange(8) % 2)

        with pytest.raises(Conflict) as refusal:
            client.transplant("cow", ["all-is", "all-size"], name="never")
        assert refusal.value.details["choices"] == ["cow-is:1"]
        assert [*client.jobs()] == []

        once = {"Idempotency-Key": "two-tasks"}
        answers = [httpx.post(f"{service.url}/v1/transplants", json=ASKED, headers=once, timeout=60) for _ in range(2)]
        assert [each.status_code for each in answers] == [202, 202]
        assert answers[0].content == answers[1].content
        assert len([*client.jobs()]) == 2

        jobs = client.wait_all([job["id"] for job in answers[0].json()["jobs"]])
        assert [job.result and job.result["network"] for job in jobs] == ["cat-here-is:1", "cat-here-size:1"]
        assert [job.pinned["teacher_task"].split("@")[0] for job in jobs] == ["cat-is", "cat-size"]
        values = [client.infer(f"cat-here-{output}", x.numpy()) for output in ("is", "size")]
        assert [value.shape for value in values] == [(8, 1), (8, 1)]
        assert not np.allclose(*values)

        said = {"all-size": "measured-on"}
        more = client.transplant("cat", ["all-size"], name="more", evaluate_on=said, recipe=RECIPE)
        (measured,) = client.wait_all(more)
        assert measured.result is not None
        assert 0 <= measured.result["metrics"]["adapter"]["balanced_accuracy"] <= 1
