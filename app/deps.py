"""What endpoints are given: the service's parts, a transaction, a page, and the parameters that many routes share."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, TypeVar, cast

import anyio
from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.edge.metrics import Metrics
from app.events import EventHub
from app.files.verifier import Verifier
from app.requests.prechecks import Prechecks
from graftery.spec.names import (
    ALIAS_PATTERN,
    EXACT_PATTERN,
    NAME_PATTERN,
    REFERENCE_PATTERN,
    check_name,
    parse_reference,
)
from graftery.spec.wire import Page
from registry import idempotency
from registry.access.caller import caller
from registry.access.guard import Guard
from registry.db import Database
from registry.settings import Settings
from registry.store import Store

_Given = TypeVar("_Given")


@dataclass(frozen=True)
class Service:
    """The parts of one app; kept in `app.state.service`."""

    settings: Settings
    database: Database
    store: Store
    verifier: Verifier
    prechecks: Prechecks
    hub: EventHub
    metrics: Metrics
    guard: Guard
    # Uploads wait here for a verifier, so that waiting holds no thread.
    verifying: anyio.CapacityLimiter
    # Set when the process was asked to end: it still answers, but should be asked no more.
    draining: threading.Event = field(default_factory=threading.Event)


async def service_of(request: Request) -> Service:
    return cast(Service, request.app.state.service)


ServiceDep = Annotated[Service, Depends(service_of)]


@asynccontextmanager
async def _ended_in_thread(room: AbstractContextManager[_Given]) -> AsyncIterator[_Given]:
    """What needs no thread to begin: a session asks nothing of the database before its first use, in the endpoint's thread.

    A limiter of its own, as endpoints that wait for a connection may have all threads.
    """
    given = room.__enter__()
    limiter = anyio.CapacityLimiter(1)
    try:
        yield given
    except Exception as error:
        if not await anyio.to_thread.run_sync(room.__exit__, type(error), error, error.__traceback__, limiter=limiter):
            raise
    else:
        await anyio.to_thread.run_sync(room.__exit__, None, None, None, limiter=limiter)


# Whatever FastAPI is given as a plain function costs a hop to a thread and back, which takes as long as a query.
async def _reading(service: ServiceDep) -> AsyncIterator[Session]:
    async with _ended_in_thread(service.database.read()) as session:
        yield session


Reading = Annotated[Session, Depends(_reading, scope="function")]


class Replayed(Exception):
    """The request was answered before: this is that answer."""

    def __init__(self, answer: Response) -> None:
        super().__init__("replayed")
        self.answer = answer


class Work:
    """One request's transaction. It is committed before the answer is sent, and wake-ups go out after the commit."""

    def __init__(self, session: Session, service: Service, once: Once | None = None) -> None:
        self._session = session
        self._once = once
        self.service = service
        self.after_commit: list[Callable[[], Any]] = []

    @cached_property
    def session(self) -> Session:
        """The session; what an Idempotency-Key has answered before is found at first use, in the endpoint's thread.

        Not earlier: a dependency that took SQLite's one write lock would hold it while it waits for a thread to run the
        endpoint in, and all threads may be waiting for that lock.
        """
        if self._once is not None:
            self._once.begin(self._session)
        return self._session

    def answer(self, out: BaseModel, *, status: int = 200, location: str | None = None) -> Response:
        """The answer, kept under the request's Idempotency-Key in the same transaction as what it reports."""
        headers = {"Location": location} if location else {}
        body = out.model_dump_json().encode()
        if self._once is not None:
            self._once.keep(self.session, status, headers, body)
        return Response(body, status, headers=headers, media_type="application/json")


@dataclass(frozen=True)
class Once:
    """A POST with an Idempotency-Key: who asks the same again gets the first answer, and nothing is done twice."""

    key: str
    method: str
    path: str
    body_sha256: str

    def begin(self, session: Session) -> None:
        found = idempotency.remember(session, self.key, self.method, self.path, self.body_sha256)
        if found is not None:
            headers = {**found.headers, "Idempotency-Replayed": "true"}
            raise Replayed(Response(found.body, found.status, headers=headers, media_type="application/json"))

    def keep(self, session: Session, status: int, headers: dict[str, str], body: bytes) -> None:
        idempotency.keep(session, self.key, idempotency.Reply(status, body, headers))


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Any string of your own. The same key with the same request is answered once: "
        "a retry gets the first answer again, and nothing is done twice",
    ),
]


async def _once(request: Request, idempotency_key: IdempotencyKey = None) -> Once | None:
    if idempotency_key is None:
        return None
    path = f"{request.url.path}?{request.url.query}"
    # A key's own: who else says the same word asks for something else.
    own = ":".join(filter(None, (caller().key_id, idempotency_key)))
    return Once(own, request.method, path, hashlib.sha256(await request.body()).hexdigest())


@contextmanager
def _work(service: Service, once: Once | None) -> Iterator[Work]:
    with service.database.transaction() as session:
        work = Work(session, service, once)
        yield work
    for call in work.after_commit:
        call()


async def _writing(service: ServiceDep) -> AsyncIterator[Work]:
    async with _ended_in_thread(_work(service, None)) as work:
        yield work


async def _posting(service: ServiceDep, once: Annotated[Once | None, Depends(_once)]) -> AsyncIterator[Work]:
    async with _ended_in_thread(_work(service, once)) as work:
        yield work


Writing = Annotated[Work, Depends(_writing, scope="function")]
Posting = Annotated[Work, Depends(_posting, scope="function")]


async def _name(
    name: Annotated[str, Path(json_schema_extra={"pattern": f"^{NAME_PATTERN}$"}, examples=["cat"])],
) -> str:
    return check_name(name)


async def _alias(
    alias: Annotated[str, Path(json_schema_extra={"pattern": f"^{ALIAS_PATTERN}$"}, examples=["stable"])],
) -> str:
    return check_name(alias, what="alias", pattern=ALIAS_PATTERN)


async def _ref(
    ref: Annotated[
        str,
        Path(
            description="name, name:3, name@alias or name@sha256:...",
            json_schema_extra={"pattern": f"^{REFERENCE_PATTERN}$"},
            examples=["cat:1"],
        ),
    ],
) -> str:
    return str(parse_reference(ref))


async def _exact_ref(
    ref: Annotated[
        str,
        Path(
            description="name:3 or name@sha256:...",
            json_schema_extra={"pattern": f"^{EXACT_PATTERN}$"},
            examples=["cat:1"],
        ),
    ],
) -> str:
    return str(parse_reference(ref))


# The patterns stand in the OpenAPI document; the refusals are ours, so that they say what is allowed.
NamePath = Annotated[str, Depends(_name)]
AliasPath = Annotated[str, Depends(_alias)]
RefPath = Annotated[str, Depends(_ref)]
# To change a version it must be named: what a name or an alias means may move under the caller.
ExactRefPath = Annotated[str, Depends(_exact_ref)]

Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200, description="Items a page")]


def link_next(request: Request, response: Response, page: Page[Any]) -> None:
    """Set the Link header to the page after this one."""
    if page.next is not None:
        url = request.url.include_query_params(cursor=page.next)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
