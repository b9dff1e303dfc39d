"""What an impact foretells, over what is really served: yanked parts break no network, yanked networks break their names."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi.testclient import TestClient

from graftery.spec.impact import ImpactOut
from registry import catalogue
from tests.serving.test_openinference import answer, error, question
from tests.support.world import NETWORK, World, images


def ask(client: TestClient, reference: str) -> int:
    """The status of a question to a name or reference."""
    return client.post(f"/v2/models/{reference}/infer", json=question()).status_code


def yank(world: World, ref: str) -> ImpactOut:
    """Yank, and give what was foretold before."""
    with world.database.transaction() as session:
        found = catalogue.yank_impact(session, ref)
        catalogue.yank(session, ref, "bad")
    return found


@pytest.mark.parametrize("warm", [True, False], ids=["in memory", "on disk"])
def test_a_network_goes_on_where_all_its_parts_are_yanked(client: TestClient, world: World, warm: bool) -> None:
    if warm:
        assert ask(client, NETWORK) == 200
    for ref in ("eight:1", f"{NETWORK}-adapter:1", f"{NETWORK}-adapter:2", "even-is:1"):
        found = yank(world, ref)
        assert {each.effect for each in found.dependents if each.kind == "network"} == {"still_served"}
        networks = [name for name in found.names if name.kind == "network"]
        assert networks and {name.effect for name in networks} == {"still_served"}
    for reference in (NETWORK, f"{NETWORK}@stable", f"{NETWORK}:1"):
        number = 2 if reference == NETWORK else 1
        x = answer(client.post(f"/v2/models/{reference}/infer", json=question()))
        np.testing.assert_allclose(x, world.answer(f"{NETWORK}:{number}", images(2)), atol=1e-5)


def test_a_yanked_category_answers_by_its_number_alone(client: TestClient, world: World) -> None:
    assert ask(client, "eight") == ask(client, "eight:1") == 200
    [broken] = [name for name in yank(world, "eight:1").broken if name.reference == "eight"]
    assert (broken.effect, broken.served) == ("no_longer_resolved", True)
    error(client.post("/v2/models/eight/infer", json=question()), 404)
    assert ask(client, "eight:1") == 200


def test_a_name_moves_where_its_newest_version_is_yanked(client: TestClient, world: World) -> None:
    found = {name.reference: name for name in yank(world, f"{NETWORK}:2").broken}
    assert (found[NETWORK].effect, found[NETWORK].then) == ("moved", f"{NETWORK}:1")
    np.testing.assert_allclose(
        answer(client.post(f"/v2/models/{NETWORK}/infer", json=question())),
        world.answer(f"{NETWORK}:1", images(2)),
        atol=1e-5,
    )
    assert (found["eight"].effect, found["eight"].then) == ("moved", f"{NETWORK}:1"), "the category's output too"
    assert ask(client, "eight") == 200


def test_names_that_somebody_set_are_refused_and_the_category_with_them(client: TestClient, world: World) -> None:
    with world.database.transaction() as session:
        catalogue.set_alias(session, NETWORK, "default", 1)
        under = {each.module.name for each in catalogue.networks_of(session, catalogue.resolve(session, "eight"))}
    assert under == {NETWORK}
    found = {name.reference: name for name in yank(world, f"{NETWORK}:1").broken}
    assert {reference: name.effect for reference, name in found.items()} == {
        NETWORK: "no_longer_resolved",
        f"{NETWORK}@stable": "no_longer_resolved",
        "eight": "not_ready",
        "eight@latest": "not_ready",
    }
    for reference, status in ((NETWORK, 404), (f"{NETWORK}@stable", 404), ("eight", 503), (f"{NETWORK}:1", 200)):
        assert ask(client, reference) == status
