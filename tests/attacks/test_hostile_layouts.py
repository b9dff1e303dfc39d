"""Directories that a stranger made to be imported: refused with words, and no row is written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftery.errors import GrafteryError
from registry import catalogue
from registry.db import Database, upgrade
from registry.layout import inventory, oci
from registry.layout.export import export
from registry.layout.restore import Found, restore
from registry.settings import Settings
from registry.store import Store
from tests.support import layouts

Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("source")
    settings = Settings(home=home, free_bytes=0)
    upgrade(settings)
    made = layouts.fill(settings)
    export(made.database, made.store, home / "out", lambda *_: None)
    return home / "out"


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "layout"))


@pytest.fixture
def target(_sqlite_template: Path, tmp_path: Path) -> tuple[Database, Store]:
    settings = Settings(home=tmp_path / "target", free_bytes=0)
    settings.home.mkdir()
    shutil.copy(_sqlite_template, settings.home / "graftery.db")
    return Database(settings.database), Store(settings)


def index(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "index.json").read_text())
    edit(document)
    (folder / "index.json").write_text(json.dumps(document))


def blob(folder: Path, which: str = "gone:2") -> Path:
    """The file of a version."""
    manifest = next(m for m, c in layouts.documents(folder) if f"{c['name']}:{c.get('number')}" == which)
    return folder / "blobs/sha256" / manifest["layers"][0]["digest"].removeprefix("sha256:")


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def descriptor(**fields: Any) -> Edit:
    return lambda folder: index(folder, lambda document: document["manifests"][0].update(fields))


def record(which: str, **fields: Any) -> Edit:
    return lambda folder: layouts.change(folder, which, lambda _, config: config.update(fields))


def manifest(which: str, **fields: Any) -> Edit:
    return lambda folder: layouts.change(folder, which, lambda found, _: found.update(fields))


def linked(folder: Path) -> None:
    elsewhere = blob(folder).rename(folder.parent / "elsewhere")
    (folder / "blobs/sha256" / hashlib.sha256(elsewhere.read_bytes()).hexdigest()).symlink_to(elsewhere)


def deep(folder: Path) -> None:
    (folder / "index.json").write_text("[" * 200_000)


def loop(folder: Path) -> None:
    """gone:2 from gone:1, and the other way round."""
    for one, other in ((1, 2), (2, 1)):
        parents = [{"role": "teacher", "name": "gone", "number": other}]
        record(f"gone:{one}", parents=parents)(folder)


EVIL = "sha256:../../../../../../etc/passwd"
HOSTILE: dict[str, tuple[Edit, str]] = {
    "no layout": (lambda f: (f / "oci-layout").unlink(), "layout_invalid"),
    "another version": (lambda f: (f / "oci-layout").write_text('{"imageLayoutVersion": "9"}'), "layout_invalid"),
    "no index": (lambda f: (f / "index.json").unlink(), "layout_invalid"),
    "an index that is no JSON": (lambda f: (f / "index.json").write_bytes(b"\xff{"), "layout_invalid"),
    "a deep index": (deep, "layout_invalid"),
    "an index that is a folder": (lambda f: replaced(f / "index.json", Path.mkdir), "layout_invalid"),
    "a path as a digest": (descriptor(digest=EVIL), "layout_invalid"),
    "another hash": (descriptor(digest="sha512:" + "0" * 128), "layout_invalid"),
    "a negative size": (descriptor(size=-1), "layout_invalid"),
    "a huge document": (descriptor(size=2**40), "layout_invalid"),
    "another size": (descriptor(size=1), "layout_invalid"),
    "an index in the index": (descriptor(mediaType="application/vnd.oci.image.index.v1+json"), "layout_invalid"),
    "a missing manifest": (descriptor(digest="sha256:" + "0" * 64), "layout_invalid"),
    "a missing file": (lambda f: blob(f).unlink(), "layout_invalid"),
    "a shorter file": (lambda f: blob(f).write_bytes(b"tw"), "layout_invalid"),
    "other bytes": (lambda f: blob(f).write_bytes(b"tvo"), "digest_mismatch"),
    "a link to other bytes": (lambda f: replaced(blob(f), lambda path: path.symlink_to("/etc/passwd")), "layout_invalid"),
    "a link to the very bytes": (linked, "layout_invalid"),
    "a pipe": (lambda f: replaced(blob(f), os.mkfifo), "layout_invalid"),
    "a device": (lambda f: replaced(blob(f), lambda path: path.symlink_to("/dev/zero")), "layout_invalid"),
    "other layers": (manifest("gone:2", layers=[]), "layout_invalid"),
    "an artifact that nobody knows": (manifest("gone:2", artifactType="x"), "layout_invalid"),
    "a name that is a path": (record("gone:2", name="../up"), "layout_invalid"),
    "a kind that nobody knows": (record("gone:2", kind="virus"), "layout_invalid"),
    "another kind than the name's": (record("gone:2", kind="task"), "layout_invalid"),
    "a number of tomorrow": (record("gone:2", number=77), "layout_invalid"),
    "a number twice": (record("gone:2", number=1), "layout_invalid"),
    "a field that nobody knows": (record("gone:2", evil=1), "layout_invalid"),
    "half a yank": (record("gone:2", yank_reason="because"), "layout_invalid"),
    "parents that are not there": (
        record("gone:2", parents=[{"role": "teacher", "name": "nobody", "number": 1}]),
        "layout_invalid",
    ),
    "a loop": (loop, "layout_invalid"),
    "an alias on nothing": (
        lambda f: layouts.change(f, "gone", lambda _, c: c["aliases"].append({"alias": "a", "version": 9, "updated_at": c["created_at"]})),
        "layout_invalid",
    ),
    "the alias that is computed": (
        lambda f: layouts.change(f, "gone", lambda _, c: c["aliases"].append({"alias": "latest", "version": 2, "updated_at": c["created_at"]})),
        "layout_invalid",
    ),
    "a network of other parts": (
        lambda f: layouts.change(f, "eight-in-even:1", lambda _, c: c["parts"].update(task="0" * 64)),
        "layout_invalid",
    ),
    "a network of other clones": (
        lambda f: layouts.change(f, "eight-and-more:1", lambda _, c: c["parts"].update(clones=["0" * 64])),
        "layout_invalid",
    ),
    "a network that hides a clone": (
        lambda f: layouts.change(f, "eight-and-more:1", lambda _, c: c["parts"].pop("clones")),
        "layout_invalid",
    ),
    "a network with a clone twice": (
        lambda f: layouts.change(f, "eight-and-more:1", lambda _, c: c["parts"].update(clones=2 * c["parts"]["clones"])),
        "layout_invalid",
    ),
    "a network without parts": (record("eight-in-even:1", parts=None), "layout_invalid"),
    "a network without lineage": (record("eight-in-even:1", parents=[]), "layout_invalid"),
    "a time without a zone": (record("gone:2", created_at="2026-01-01T00:00:00"), "layout_invalid"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_refused_and_nothing_is_written(what: str, folder: Path, target: tuple[Database, Store]) -> None:
    edit, code = HOSTILE[what]
    edit(folder)
    with pytest.raises(GrafteryError) as error:
        restore(*target, folder, lambda *_: None, check=None)
    assert error.value.code == code, error.value
    with target[0].read() as session:
        assert catalogue.list_modules(session).items == []


def test_a_network_file_that_names_other_parts(folder: Path, target: tuple[Database, Store]) -> None:
    """Its digest fits its bytes, and its record fits its lineage; only the two do not fit each other."""
    evil = layouts.write(folder, {"format": "graftery.network/1", "parts": {"category": "0" * 64, "task": "1" * 64}})

    def edit(found: dict[str, Any], config: dict[str, Any]) -> None:
        found["layers"][0] |= evil
        config["digest"], config["size_bytes"] = evil["digest"].removeprefix("sha256:"), evil["size"]

    layouts.change(folder, "eight-teacher:1", edit)
    with pytest.raises(GrafteryError, match="does not name the parts") as error:
        restore(*target, folder, lambda *_: None, check=None)
    assert error.value.code == "layout_invalid"


@pytest.mark.parametrize("limit", ["MAX_INDEX_BYTES", "MAX_DOCUMENTS_BYTES"])
def test_too_much(limit: str, folder: Path, target: tuple[Database, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci, limit, 1000)
    with pytest.raises(GrafteryError, match="over 1000 bytes") as error:
        restore(*target, folder, lambda *_: None, check=None)
    assert error.value.code == "layout_invalid"


def test_too_many(folder: Path, target: tuple[Database, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MAX_MANIFESTS", 3)
    with pytest.raises(GrafteryError, match="over 3 manifests"):
        restore(*target, folder, lambda *_: None, check=None)


class TestWhatACheckFinds:
    """Stated facts are nobody's word: what the check finds in the file counts."""

    def test_facts_are_replaced(self, folder: Path, target: tuple[Database, Store]) -> None:
        restore(*target, folder, lambda *_: None, check=lambda record, _: Found(None, {"of": record.ref}))
        with target[0].read() as session:
            assert catalogue.resolve(session, "eight").facts == {"of": "eight:1"}
            assert catalogue.resolve(session, "eight-in-even").facts is None

    def test_another_manifest_than_the_files(self, folder: Path, target: tuple[Database, Store]) -> None:
        def check(record: Any, _path: Path) -> Found:
            manifest = record.manifest and record.manifest | {"licence": "theirs"}
            return Found(manifest if record.name == "eight" else None, {})

        with pytest.raises(GrafteryError, match="eight:1 is not the one in its file"):
            restore(*target, folder, lambda *_: None, check=check)
        with target[0].read() as session:
            assert catalogue.list_modules(session).items == []
