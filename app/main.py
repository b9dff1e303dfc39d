"""The app, as `python -m app.api` serves it. Never loads torch, unless the settings ask for inference."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.deps import Replayed, Service
from app.edge import errors, openapi
from app.edge.access import Access
from app.edge.metrics import Metrics
from app.edge.middleware import BodyTimeout, HeadAsGet, JsonBodyLimit, RequestContext
from app.events import EventHub
from app.files.verifier import Verifier
from app.requests import prechecks
from app.requests.prechecks import Prechecks
from app.routes import (
    access,
    aliases,
    certificates,
    clones,
    generic,
    health,
    jobs,
    modules,
    networks,
    samples,
    teachers,
    uploads,
    versions,
)
from graftery import __version__
from registry import logs
from registry.access.guard import Guard
from registry.db import Database
from registry.settings import Settings
from registry.store import Store
from registry.sweeping import sweep_hourly

ROUTERS = (
    modules,
    versions,
    certificates,
    aliases,
    teachers,
    samples,
    uploads,
    networks,
    clones,
    generic,
    jobs,
    access,
)


class App(FastAPI):
    """FastAPI; infer requests go past it, as its own middleware alone takes as long as a small net."""

    infer: ASGIApp | None = None
    """Answers those that `takes_infer` names."""
    takes_infer: Callable[[Scope], bool]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.infer is None or not self.takes_infer(scope):
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.infer(scope, receive, send)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app for these settings (by default, those of the environment). The schema is expected to be there."""
    settings = settings or Settings()
    logs.configure(settings)
    service = _service(settings)
    app = App(
        title=openapi.TITLE,
        version=__version__,
        lifespan=_lifespan,
        generate_unique_id_function=openapi.operation_id,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.settings, app.state.database = service.settings, service.database
    app.state.store, app.state.verifier = service.store, service.verifier
    errors.install(app)
    openapi.install(app)
    app.exception_handler(Replayed)(_replayed)
    app.include_router(health.router)
    if "registry" in settings.planes:
        for room in ROUTERS:
            app.include_router(room.router)
    around = _around(service)
    if "inference" in settings.planes:
        from serving.openinference import mount

        direct = mount(app, settings, service.database, service.store, service.guard)
        app.takes_infer, app.infer = direct.takes, direct
        for layer, options in around:
            app.infer = layer(app.infer, **options)
        app.state.serving.draining = service.draining
    # The middleware that is added last is the outermost.
    for layer, options in [(JsonBodyLimit, {}), (HeadAsGet, {}), *around]:
        app.add_middleware(layer, **options)
    return app


def _around(service: Service) -> list[tuple[Any, dict[str, Any]]]:
    """What surrounds every request, infer requests too: the innermost first, each with its options."""
    return [
        (BodyTimeout, {"idle_s": service.settings.body_idle_s}),
        (Access, {"guard": service.guard}),
        (RequestContext, {"metrics": service.metrics, "draining": service.draining}),
    ]


def _service(settings: Settings) -> Service:
    database = Database(settings.database)
    store = Store(settings)
    return Service(
        settings=settings,
        database=database,
        store=store,
        verifier=Verifier(settings.limits, settings.verifiers),
        prechecks=Prechecks(store, prechecks.children(settings), max(1, settings.prechecks)),
        hub=EventHub(database),
        metrics=Metrics(database),
        guard=Guard(settings, database),
        verifying=anyio.CapacityLimiter(settings.verifiers),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    if "registry" in service.settings.planes:
        service.verifier.start()
        service.prechecks.start()
    stopping = threading.Event()
    sweep_hourly(service.store, service.settings.collect_grace_s, stopping)
    try:
        yield
    finally:
        stopping.set()
        await service.hub.close()
        service.verifier.close()
        service.prechecks.close()
        service.database.dispose()


def _replayed(_request: Request, error: Replayed) -> Response:
    return error.answer
