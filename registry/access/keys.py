"""Keys: made, listed, rotated, revoked, found. A secret is given back once, and kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from graftery.errors import Conflict, NotFound
from graftery.spec.access import KeyMade, KeyOut, KeyRequest, Scope, granted
from graftery.spec.names import check_name
from graftery.spec.wire import Page
from registry.access import audit, tokens
from registry.access.caller import Caller
from registry.access.tables import ApiKey
from registry.clock import from_now, now
from registry.pages import clamp, cut, read_cursor

State = Literal["active", "expired", "revoked"]
_STATE = case(
    (ApiKey.revoked_at.is_not(None), "revoked"),
    (and_(ApiKey.expires_at.is_not(None), ApiKey.expires_at <= now()), "expired"),
    else_="active",
)


def create(session: Session, name: str, asked: KeyRequest) -> KeyMade:
    """Make a key.

    Raises:
        Conflict: the name is, or was, that of another one.
    """
    check_name(name, what="a key's name")
    if session.scalar(select(ApiKey.id).where(ApiKey.name == name)) is not None:
        raise Conflict(
            f"There is, or was, a key {name}", hint="choose another name: the audit log tells keys apart by it"
        )
    key_id = tokens.new_id()
    token = tokens.new_token(key_id)
    row = ApiKey(
        id=key_id,
        name=name,
        sha256=tokens.hash_of(token),
        scopes=[*asked.scopes],
        namespaces=asked.namespaces,
        created_by=audit.author(),
        expires_at=None if asked.expires_in_s is None else from_now(asked.expires_in_s),
    )
    session.add(row)
    session.flush()
    audit.note(session, "key.create", f"key {name}", scopes=asked.scopes, namespaces=asked.namespaces)
    return _made(session, row, token)


def rotate(session: Session, name: str, overlap_s: float) -> KeyMade:
    """Give a key a new secret; the one before is taken for `overlap_s` more, and no longer than the key itself.

    Raises:
        NotFound: there is no such key.
        Conflict: it was revoked, or has expired.
    """
    row, state = _locked(session, name)
    if state != "active":
        raise Conflict(f"The key {name} is {state}", hint="make a new one")
    token = tokens.new_token(row.id)
    row.earlier_sha256 = row.sha256 if overlap_s > 0 else None
    row.earlier_until = from_now(overlap_s) if overlap_s > 0 else None
    row.sha256, row.rotated_at = tokens.hash_of(token), now()
    session.flush()
    audit.note(session, "key.rotate", f"key {name}", overlap_s=overlap_s)
    return _made(session, row, token)


def revoke(session: Session, name: str) -> None:
    """Take a key back for good. One that was taken back already stays so.

    Raises:
        NotFound: there is no such key.
    """
    row, state = _locked(session, name)
    if state == "revoked":
        return
    row.revoked_at, row.earlier_sha256, row.earlier_until = now(), None, None
    session.flush()
    audit.note(session, "key.revoke", f"key {name}")


def get(session: Session, name: str) -> KeyOut:
    """A key by its name.

    Raises:
        NotFound
    """
    found = session.execute(select(ApiKey, _STATE).where(ApiKey.name == name)).one_or_none()
    if found is None:
        raise NotFound(f"There is no key {name}", hint="`graftery keys list` shows them")
    return _out(*found)


def list_keys(session: Session, *, cursor: str | None = None, limit: int = 50) -> Page[KeyOut]:
    """Keys by their names, revoked and expired ones too."""
    limit, after = clamp(limit), read_cursor(cursor, str)
    query = select(ApiKey, _STATE).order_by(ApiKey.name).limit(limit + 1)
    if after is not None:
        query = query.where(ApiKey.name > after[0])
    found: Sequence[Any] = session.execute(query).all()
    rows, following = cut(found, limit, lambda row: (row[0].name,))
    return Page[KeyOut](items=[_out(row[0], row[1]) for row in rows], next=following)


def is_any_usable(session: Session) -> bool:
    """Whether some key would be taken now."""
    return bool(session.scalar(select(func.count()).select_from(ApiKey).where(_STATE == "active")))


def find(session: Session, token: str) -> tuple[Caller | None, str]:
    """Whose key this is, or None and the reason why it is not taken. The reason is for the log, not for the caller."""
    key_id = tokens.id_of(token)
    if key_id is None:
        return None, "no key of this service"
    overlaps = func.coalesce(ApiKey.earlier_until > now(), False)
    found: Any = session.execute(select(ApiKey, _STATE, overlaps).where(ApiKey.id == key_id)).one_or_none()
    if found is None:
        return None, "unknown key"
    row, state, has_earlier = found
    hash_ = tokens.hash_of(token)
    matches = tokens.is_same(hash_, row.sha256)
    if has_earlier:
        matches |= tokens.is_same(hash_, row.earlier_sha256)
    if not matches:
        return None, "wrong secret"
    return (_caller(row), "") if state == "active" else (None, f"the key is {state}")


def _caller(row: ApiKey) -> Caller:
    scopes: list[Scope] = row.scopes  # type: ignore[assignment]
    namespaces = None if row.namespaces is None else tuple(row.namespaces)
    return Caller(row.name, row.id, granted(scopes), namespaces)


def _locked(session: Session, name: str) -> tuple[ApiKey, State]:
    query = select(ApiKey).where(ApiKey.name == name).with_for_update().execution_options(populate_existing=True)
    row = session.scalar(query)
    if row is None:
        raise NotFound(f"There is no key {name}", hint="`graftery keys list` shows them")
    return row, session.scalars(select(_STATE).where(ApiKey.id == row.id)).one()


def _made(session: Session, row: ApiKey, token: str) -> KeyMade:
    return KeyMade(**get(session, row.name).model_dump(), secret=token)


def _out(row: ApiKey, state: State) -> KeyOut:
    columns = {field: getattr(row, field, None) for field in KeyOut.model_fields}
    return KeyOut.model_validate({**columns, "state": state, "overlap_until": row.earlier_until})
