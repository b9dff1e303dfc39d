"""`python -m app.keys`: keys on the database itself, for the first one; `graftery keys --local` runs it.

Reads one question as JSON from stdin, writes one answer to stdout: what HTTP would answer, or a problem with its code.
"""

from __future__ import annotations

import getpass
import json
import sys
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from graftery.errors import GrafteryError
from graftery.spec.access import KeyRequest, RotateRequest
from graftery.spec.wording import wrong_fields
from registry.access import keys
from registry.access.caller import Caller, acting
from registry.db import Database, check_head, upgrade
from registry.logs import configure
from registry.pages import MAX_LIMIT
from registry.settings import Settings


def main() -> int:
    """Answer the question; 1 where it is refused."""
    asked = json.load(sys.stdin)
    try:
        settings = Settings(**asked["settings"])
        configure(settings)
        answer = _answer(settings, asked)
    except GrafteryError as error:
        answer = {"code": error.code, "detail": error.message, "hint": error.hint}
    json.dump(answer, sys.stdout)
    return int("code" in answer)


def _answer(settings: Settings, asked: dict[str, Any]) -> Any:
    database = Database(settings.database)
    try:
        if database.is_sqlite:
            upgrade(settings)  # as `graftery serve` does; a deployment upgrades its database by itself
        check_head(database)
        with acting(Caller(f"local {getpass.getuser()}")), database.transaction() as session:
            return _do(session, asked["verb"], asked.get("name", ""), asked.get("body", {}))
    finally:
        database.dispose()


def _do(session: Session, verb: str, name: str, body: dict[str, Any]) -> Any:
    match verb:
        case "create":
            return _json(keys.create(session, name, _read(KeyRequest, body)))
        case "rotate":
            return _json(keys.rotate(session, name, _read(RotateRequest, body).overlap_s))
        case "revoke":
            keys.revoke(session, name)
            return {}
        case _:
            return {"items": _all(session)}


def _all(session: Session) -> list[Any]:
    found, cursor = [], None
    while True:
        page = keys.list_keys(session, cursor=cursor, limit=MAX_LIMIT)
        found += [_json(key) for key in page.items]
        cursor = page.next
        if cursor is None:
            return found


def _read(model: type[BaseModel], body: dict[str, Any]) -> Any:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        wrong = wrong_fields(error.errors(), model)[0]
        raise GrafteryError(f"{wrong.at}: {wrong.problem}", code="request_invalid") from None


def _json(found: BaseModel) -> Any:
    return found.model_dump(mode="json")


if __name__ == "__main__":
    sys.exit(main())
