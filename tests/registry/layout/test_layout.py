"""From one registry to another by a directory: everything, on both databases and both kinds of store."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from graftery.errors import Conflict, GrafteryError, StoreError
from registry import catalogue, generics
from registry.base import Base
from registry.clock import from_now
from registry.collect import collect
from registry.db import Database, upgrade
from registry.layout.export import export
from registry.layout.restore import restore
from registry.models import BlobRow, Version
from registry.settings import Settings
from registry.store import Store
from tests.support import layouts, world
from tests.support.registry import put
from tests.support.workplace import SQLITE

Place = tuple[Database, Store]
FILES = 14
"""Of `layouts.fill`: as many versions, two of them with one file, and a record of probes."""


def nothing(_done: int, _total: int) -> None: ...


@pytest.fixture
def source(settings: Settings) -> Place:
    made = layouts.fill(settings)
    return made.database, made.store


@pytest.fixture
def target(_sqlite_template: Path, tmp_path: Path) -> Place:
    settings = Settings(home=tmp_path / "target", free_bytes=0)
    settings.home.mkdir()
    shutil.copy(_sqlite_template, settings.home / "graftery.db")
    return Database(settings.database), Store(settings)


@pytest.fixture
def folder(source: Place, tmp_path: Path) -> Path:
    export(*source, tmp_path / "out", nothing)
    return tmp_path / "out"


def test_everything_comes_back(source: Place, target: Place, folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    moved = restore(*target, folder, lambda *at: seen.append(at), check=None)
    assert layouts.rows(target[0]) == layouts.rows(source[0])
    assert moved.versions == moved.copied == moved.files == FILES
    assert seen[-1] == (moved.size_bytes, moved.size_bytes)
    for found in source[1].stored():
        if target[1].exists(found.digest):
            assert b"".join(target[1].read(found.digest)) == b"".join(source[1].read(found.digest))
    assert collect(*target, -1.0)["freed"] == 0
    with target[0].transaction() as session:
        assert put(session, "gone", "four").number == 4  # a deleted number is not given again
        assert catalogue.rollback_alias(session, "eight-in-even", "default").version.number == 1


@SQLITE
def test_over_a_bucket(source: Place, folder: Path, bucket_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "bucket", store_url=bucket_url, free_bytes=0)
    upgrade(settings)
    place = Database(settings.database), Store(settings)
    restore(*place, folder, nothing, check=None)
    export(*place, tmp_path / "again", nothing)
    assert layouts.rows(place[0]) == layouts.rows(source[0])
    first, second = ({each.name for each in (f / "blobs/sha256").iterdir()} for f in (folder, tmp_path / "again"))
    assert first == second


@SQLITE
def test_it_is_an_oci_layout(folder: Path) -> None:
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((folder / "index.json").read_text())
    assert (index["schemaVersion"], index["mediaType"]) == (2, "application/vnd.oci.image.index.v1+json")
    for manifest, _ in layouts.documents(folder):
        assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        for each in [manifest["config"], *manifest["layers"]]:
            assert (folder / "blobs/sha256" / each["digest"].removeprefix("sha256:")).stat().st_size == each["size"]
    assert {path.name for path in folder.iterdir()} == {"oci-layout", "index.json", "blobs"}


@SQLITE
def test_adapters_refer_to_their_modules(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    digests = {
        e["annotations"]["org.opencontainers.image.ref.name"]: e["digest"]
        for e in index["manifests"]
        if "annotations" in e
    }
    subjects = [
        m["subject"]["digest"]
        for m, config in layouts.documents(folder)
        if config["name"] == "learned" and "subject" in m
    ]
    assert sorted(subjects) == sorted([digests["eight:1"], digests["even-is:1"]])


@SQLITE
def test_what_is_there_is_not_copied_again(source: Place, target: Place, folder: Path) -> None:
    inodes = {path: path.stat().st_ino for path in (folder / "blobs/sha256").iterdir()}
    assert export(*source, folder, nothing).copied == 0
    assert inodes == {path: path.stat().st_ino for path in (folder / "blobs/sha256").iterdir()}
    assert restore(*target, folder, nothing, check=None).copied == FILES
    again = restore(*target, folder, nothing, check=None)
    assert (again.versions, again.copied) == (0, 0)
    with source[0].transaction() as session:
        put(session, "gone", source[1].put_bytes(b"four") and "four")
    assert export(*source, folder, nothing).copied == 1
    more = restore(*target, folder, nothing, check=None)
    assert (more.versions, more.copied) == (1, 1)
    with target[0].read() as session:
        assert catalogue.resolve(session, "gone").number == 4


@SQLITE
def test_an_import_that_broke_goes_on(target: Place, folder: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(*target, folder, interrupt, check=None)
    with target[0].read() as session:
        assert catalogue.list_modules(session).items == []
    assert collect(*target, -1.0)["freed"] == 0  # what was copied waits for its name
    assert restore(*target, folder, nothing, check=None).copied == FILES - 1


@SQLITE
def test_a_collection_meanwhile_frees_nothing_that_is_imported(target: Place, folder: Path) -> None:
    """What nothing names any more, and was about to be freed, is wanted again."""
    database, store = target
    restore(*target, folder, nothing, check=None)
    digests = {found.digest for found in store.stored()}
    for table in reversed(Base.metadata.sorted_tables):
        if table.name != "blobs":
            with database.transaction() as session:
                session.execute(table.delete())
    with database.transaction() as session:
        session.execute(update(BlobRow).values(touched_at=from_now(-60), leased_until=None))
    for digest in digests:
        os.utime(store.local_path(digest), (time.time() - 60,) * 2)
    freed: list[object] = []

    def beside(_done: int, _total: int) -> None:
        if not freed:
            freed.append(collect(database, store, 0)["freed"])

    assert restore(*target, folder, beside, check=None).versions == FILES
    with database.read() as session:
        named = set(session.scalars(select(BlobRow.digest))) | set(session.scalars(select(Version.digest)))
    assert freed == [0] and named == digests == {found.digest for found in store.stored()}


@SQLITE
def test_an_export_of_damaged_bytes_says_so(source: Place, tmp_path: Path) -> None:
    database, store = source
    with database.read() as session:
        path = store.local_path(catalogue.resolve(session, "gone:2").digest)
    path.chmod(0o644)
    path.write_bytes(b"tvo")
    with pytest.raises(StoreError) as error:
        export(database, store, tmp_path / "out", nothing)
    assert error.value.code == "store_corrupt"
    assert not (tmp_path / "out/index.json").exists()
    assert list((tmp_path / "out/blobs/sha256").glob(".draft*")) == []


@SQLITE
def test_names_that_are_something_else_here(target: Place, folder: Path) -> None:
    database, store = target
    with database.transaction() as session:
        put(session, "gone", "other")
    before = layouts.rows(database)
    with pytest.raises(Conflict, match="gone:1"):
        restore(database, store, folder, nothing, check=None)
    assert layouts.rows(database) == before


@SQLITE
def test_a_name_of_another_kind(target: Place, folder: Path) -> None:
    database, store = target
    with database.transaction() as session:
        put(session, "eight", "other", "task")
    with pytest.raises(Conflict) as error:
        restore(database, store, folder, nothing, check=None)
    assert error.value.code == "kind_conflict"


@SQLITE
def test_groups_and_their_members_come_back(source: Place, target: Place, tmp_path: Path) -> None:
    _with_member(source)
    export(*source, tmp_path / "with-groups", nothing)
    restore(*target, tmp_path / "with-groups", nothing, check=None)
    assert layouts.rows(target[0]) == layouts.rows(source[0])
    with target[0].transaction() as session, pytest.raises(Conflict):
        catalogue.delete_module(session, "kin")


@SQLITE
@pytest.mark.parametrize("lie", ["no group", "another group", "another kind", "none in the manifest"])
def test_a_member_of_another_group_than_its_file_says_is_refused(
    source: Place, target: Place, tmp_path: Path, lie: str
) -> None:
    """Joining goes by what the manifest says, deletion by lineage: they have to agree."""
    _with_member(source)
    folder = tmp_path / "with-groups"
    export(*source, folder, nothing)

    def edit(_manifest: dict[str, object], config: dict[str, Any]) -> None:
        if lie == "no group":
            config["parents"] = []
        elif lie == "none in the manifest":
            config["manifest"]["parents"] = []
        else:
            config["parents"][0] |= {"name": "kin-2" if lie == "another group" else "eight"}

    layouts.change(folder, "member:1", edit)
    with pytest.raises(GrafteryError) as refused:
        restore(*target, folder, nothing, check=None)
    assert refused.value.code == "layout_invalid"


def _with_member(source: Place) -> None:
    database, store = source
    with database.transaction() as session:
        for name in ("kin", "kin-2"):
            put(session, name, store.put_bytes(name.encode()) and name, "group")
        spec = {"dtype": "float32", "shape": ["N", 4]}
        parents = [{"role": "group", "digest": catalogue.resolve(session, "kin").digest}]
        manifest = {"kind": "task", "input": spec, "outputs": {"is": spec}, "parents": parents}
        store.put_bytes(b"member")
        put(session, "member", "member", "task", manifest=manifest)


def _with_generic(source: Place) -> None:
    """A generic network with a cell that was replaced and put back, and a missing one."""
    with source[0].transaction() as session:
        generics.create(session, "zoo", "all of them")
        members = [catalogue.resolve(session, ref) for ref in ("eight:1", "even-is:1")]
        generics.add(session, "zoo", members)
        first = generics.grid(session, generics.find(session, "zoo")).cells[0].network
        assert first is not None
        there = {ref: catalogue.resolve(session, ref) for ref in (f"{world.NETWORK}:1", f"{world.NETWORK}:2")}
        other = next(version for version in there.values() if version.id != first.id)
        generics.place(session, "zoo", other, replace=True)
        generics.rollback(session, "zoo")
        generics.add(session, "zoo", [put(session, "more-animals")])


def _generic(place: Place) -> list[object]:
    with place[0].read() as session:
        history = generics.list_changes(session, generics.find(session, "zoo")).items
        return [
            generics.matrix(session, "zoo"),
            [each.model_copy(update={"id": 0, "undoes": None}) for each in history],
        ]


def test_generic_networks_come_back(source: Place, target: Place, tmp_path: Path) -> None:
    _with_generic(source)
    export(*source, tmp_path / "out", nothing)
    restore(*target, tmp_path / "out", nothing, check=None)
    assert _generic(target) == _generic(source)
    restore(*target, tmp_path / "out", nothing, check=None)
    assert _generic(target) == _generic(source)
    with target[0].transaction() as session, pytest.raises(Conflict):
        generics.rollback(session, "zoo")  # it was rolled back before it was exported


@SQLITE
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda told: told["members"][0].update(number=9), "there is no category or task eight:9"),
        (lambda told: told["cells"][0]["network"].update(name="eight"), "there is no network eight:2"),
        (lambda told: told["cells"][0].update(task="odd"), "is not of the cell eight x odd"),
        (lambda told: told["cells"][0].update(category="more"), "is not of the cell more x even-is"),
    ],
)
def test_a_cell_of_what_is_not_there_is_refused(
    source: Place, target: Place, tmp_path: Path, edit: Any, said: str
) -> None:
    _with_generic(source)
    export(*source, tmp_path / "out", nothing)
    layouts.change(tmp_path / "out", "zoo", lambda _manifest, config: edit(config["generic"]))
    with pytest.raises(GrafteryError) as caught:
        restore(*target, tmp_path / "out", nothing, check=None)
    assert caught.value.code == "layout_invalid" and said in caught.value.message
    with target[0].read() as session:
        assert catalogue.list_modules(session).items == []
