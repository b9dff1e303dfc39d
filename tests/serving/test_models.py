"""From names to what is run, over the real catalogue."""

from __future__ import annotations

import pytest

from graftery.errors import InferenceRefused, NotFound, Unavailable
from graftery.spec.manifest import NetworkParts
from registry import catalogue
from serving import models
from serving.branches import Model
from tests.support import files
from tests.support.world import NETWORK, World, adapter


def find(world: World, name: str, version: str | None = None) -> Model:
    with world.database.read() as session:
        return models.find(session, name, version)


@pytest.mark.parametrize(
    ("name", "version", "number"),
    [
        (NETWORK, None, 2),
        (NETWORK, "1", 1),
        (NETWORK, "002", 2),
        (f"{NETWORK}:1", None, 1),
        (f"{NETWORK}@stable", None, 1),
        (f"{NETWORK}@latest", None, 2),
    ],
)
def test_names_lead_to_versions(world: World, name: str, version: str | None, number: int) -> None:
    model = find(world, name, version)
    assert (model.name, model.number, model.key) == (NETWORK, number, f"{NETWORK}:{number}")


def test_a_digest_leads_to_its_version(world: World) -> None:
    with world.database.read() as session:
        pin = catalogue.resolve(session, f"{NETWORK}:1").pin
    assert find(world, pin).number == 1


def test_the_default_alias_is_what_a_plain_name_serves(world: World) -> None:
    with world.database.transaction() as session:
        catalogue.set_alias(session, NETWORK, "default", 1)
    assert find(world, NETWORK).number == 1
    with world.database.transaction() as session:
        catalogue.set_alias(session, NETWORK, "default", 2)
    assert find(world, NETWORK).number == 2


def test_a_network_has_the_categorys_input_and_the_tasks_outputs(world: World) -> None:
    model = find(world, NETWORK)
    assert str(model.input) == "[N, 1, 8, 8]" and model.input.name == "input"
    assert model.input.datatype == "FP32" and model.input.shape == (-1, 1, 8, 8)
    assert list(model.outputs) == ["is"] and model.outputs["is"].declared.shape == (-1, 1)
    assert len(model.parts) == 3 and set(model.parts.values()) <= {
        len(files.file_bytes(file)) for file in world.networks[f"{NETWORK}:2"] if file is not None
    }


def test_without_an_adapter_there_are_two_parts(world: World) -> None:
    model = find(world, "eight-teacher")
    assert model.branches[0].adapter is None and len(model.parts) == 2


def test_a_category_offers_its_networks_as_outputs(world: World) -> None:
    category, task = files.parts()
    world.compose("eight-again", category, None, task)
    with world.database.transaction() as session:
        eight = catalogue.resolve(session, "eight")
        parts = catalogue.network_parts(session, catalogue.resolve(session, NETWORK))
    assert parts.category.digest == eight.digest
    model = find(world, "eight")
    assert NETWORK in model.outputs and model.key == "eight:1"
    assert model.category == eight.digest
    assert {branch.adapter for branch in model.branches} >= {find(world, NETWORK).branches[0].adapter}


def test_a_category_follows_each_networks_alias(world: World) -> None:
    before = find(world, "eight").branches
    with world.database.transaction() as session:
        catalogue.set_alias(session, NETWORK, "default", 1)
    after = find(world, "eight").branches
    assert before != after and after == find(world, "eight").branches
    with world.database.transaction() as session:
        catalogue.yank(session, f"{NETWORK}:1", "bad")
    with pytest.raises(Unavailable, match="no network is composed of eight:1"):
        find(world, "eight")  # the default alias is on a yanked version: nothing to run, and no error of another kind


def test_a_network_that_moved_to_another_category_is_no_output_any_more(world: World) -> None:
    other, task = files.parts(channels=5)
    with world.database.transaction() as session:
        row = world.put(session, "five", other)
        parts = NetworkParts(category=row.digest, task=world.put(session, "five-is", task).digest)
        blob = world.store.put_bytes(catalogue.compose_document(parts))
        catalogue.publish(session, name=NETWORK, kind="network", blob=blob, parts=parts)
    assert list(find(world, "five").outputs) == [NETWORK]
    with pytest.raises(Unavailable, match="no network is composed of eight:1"):
        find(world, "eight")


def test_a_category_without_networks_is_not_ready(world: World) -> None:
    with world.database.transaction() as session:
        world.put(session, "lonely", files.parts(channels=5)[0])
    with pytest.raises(Unavailable, match="no network is composed of lonely:1") as caught:
        find(world, "lonely")
    assert caught.value.code == "not_ready"


def test_other_kinds_are_not_served(world: World) -> None:
    with pytest.raises(NotFound, match="even-is is of kind task"):
        find(world, "even-is")


def test_unknown_names_come_with_near_ones(world: World) -> None:
    with pytest.raises(NotFound, match=f"'eight-in-evn'.*{NETWORK}"):
        find(world, "eight-in-evn")
    with pytest.raises(NotFound, match=f"version {NETWORK}:9.*{NETWORK}:2"):
        find(world, NETWORK, "9")
    with pytest.raises(NotFound, match=f"alias {NETWORK}@nope.*{NETWORK}@stable"):
        find(world, f"{NETWORK}@nope")
    with pytest.raises(NotFound, match="is not a reference"):
        find(world, "no such name")


def test_a_yanked_version_is_served_by_number_only(world: World) -> None:
    with world.database.transaction() as session:
        catalogue.yank(session, f"{NETWORK}:2", "worse than 1")
    assert find(world, NETWORK).number == 1
    assert find(world, NETWORK, "2").number == 2
    with world.database.transaction() as session:
        catalogue.yank(session, f"{NETWORK}:1", "bad")
    with pytest.raises(NotFound, match="only yanked versions"):
        find(world, NETWORK)
    with pytest.raises(NotFound, match="was yanked: bad"):
        find(world, f"{NETWORK}@stable")


@pytest.mark.parametrize("version", ["0", "-1", "abc", "1.0", "٣", "9" * 10, " 1"])
def test_versions_are_numbers(world: World, version: str) -> None:
    with pytest.raises(InferenceRefused, match="a version is a number from 1"):
        find(world, NETWORK, version)


def test_a_version_said_twice_is_refused(world: World) -> None:
    with pytest.raises(InferenceRefused, match="already says which version"):
        find(world, f"{NETWORK}@stable", "1")


def test_adapters_differ_between_the_versions(world: World) -> None:
    assert adapter(1).content_digest != adapter(2).content_digest
    assert find(world, NETWORK, "1").branches[0].adapter != find(world, NETWORK, "2").branches[0].adapter
    assert find(world, NETWORK, "1").category == find(world, NETWORK, "2").category


def test_what_was_found_before_is_not_read_again_but_names_are(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    known: models.Known = {}
    with world.database.read() as session:
        first = models.find(session, NETWORK, known=known)
        monkeypatch.setattr(models, "_model", None)
        assert models.find(session, f"{NETWORK}:2", known=known) is first
    with world.database.transaction() as session:
        catalogue.set_alias(session, NETWORK, "default", 1)
    monkeypatch.undo()
    with world.database.read() as session:
        assert models.find(session, NETWORK, known=known).number == 1


def test_a_name_that_was_made_anew_is_another_network(world: World) -> None:
    known: models.Known = {}
    with world.database.read() as session:
        before = models.find(session, "eight-teacher", known=known)
    with world.database.transaction() as session:
        catalogue.delete_module(session, "eight-teacher")
    world.compose("eight-teacher", *world.networks[f"{NETWORK}:1"])
    with world.database.read() as session:
        after = models.find(session, "eight-teacher", known=known)
    assert before.key == after.key and before.parts != after.parts


def test_what_is_remembered_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MAX_KNOWN", 1)
    known: models.Known = {}
    with world.database.read() as session:
        for version in ("1", "2", "1"):
            assert models.find(session, NETWORK, version, known).number == int(version)
            assert len(known) == 1
