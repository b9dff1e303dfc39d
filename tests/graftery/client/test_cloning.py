"""The client's verbs about clones: what is sent, and refused before it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graftery.client.http import Client
from graftery.errors import GrafteryError, Misfit, RecipeRefused
from tests.support.scripted import as_json, problem, scripted

Make = Callable[..., dict[str, Any]]


def test_only_what_was_said_is_sent(job: Make) -> None:
    with (
        scripted({"POST /v1/clones": lambda _: as_json(job(kind="clone"), 202)}) as server,
        Client(server.url) as client,
    ):
        assert client.clone("birds", "animals", ["owl"], name="owl", samples="few").kind == "clone"
        recipe = {"keep": 0.2, "positions": ["task.block"]}
        client.clone("birds", "animals", ["owl"], name="owl", samples="few", network="n", alias="a", recipe=recipe)
        client.clone("b", "a", ["x"], name="c", samples="s", evaluate_on="t", source_evaluate_on="u")
    said = {"name": "owl", "source": "birds", "target": "animals", "want": ["owl"], "samples": "few", "recipe": {}}
    assert server.asked[0].json() == said
    assert server.asked[1].json() == said | {"recipe": recipe, "network": "n", "alias": "a"}
    assert {"evaluate_on": "t", "source_evaluate_on": "u"}.items() <= server.asked[2].json().items()
    assert all("Idempotency-Key" in each.headers or "idempotency-key" in each.headers for each in server.asked)


def test_attach_and_detach(version: Make) -> None:
    answer = lambda _: as_json(version("animals", 2, kind="network"), 201)  # noqa: E731
    script = {f"POST /v1/networks/animals@stable/{verb}": answer for verb in ("attach", "detach")}
    with scripted(script) as server, Client(server.url) as client:
        assert client.attach("animals@stable", ["owl", "jay"]).ref == "animals:2"
        client.detach("animals@stable", ["owl"], name="other", alias="default")
    assert [each.json() for each in server.asked] == [
        {"clones": ["owl", "jay"]},
        {"clones": ["owl"], "name": "other", "alias": "default"},
    ]


def test_what_cannot_be_is_refused_before_it_is_sent() -> None:
    with scripted({}) as server, Client(server.url) as client:
        with pytest.raises(RecipeRefused, match="keep"):
            client.clone("b", "a", ["x"], name="c", samples="s", recipe={"keep": 2})
        with pytest.raises(GrafteryError, match="no network is named"):
            client.clone("b", "a", ["x"], name="c", samples="s", alias="stable")
        with pytest.raises(GrafteryError, match="twice"):
            client.attach("a", ["x", "x"])
    assert server.asked == []


def test_a_refusal_is_of_its_class() -> None:
    refuse = lambda _: problem("target_changed", 409, "made for another")  # noqa: E731
    with scripted({"POST /v1/networks/a/attach": refuse}) as server, Client(server.url) as client:
        with pytest.raises(Misfit) as caught:
            client.attach("a", ["x"])
        assert caught.value.code == "target_changed"
