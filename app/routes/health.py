"""/health and /metrics: whether the service is up, and its figures."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response

from app.deps import Service, ServiceDep
from app.edge.errors import problems
from graftery import __version__
from graftery.errors import GrafteryError
from graftery.spec.wire import Health
from registry.db import check_head

router = APIRouter(tags=["health"])

_NO_BYTES = "0" * 64


@router.get("/health")
def health(service: ServiceDep) -> Health:
    """The state of every part; answers 200 as long as the process does."""
    return _state(service)


@router.get("/health/live")
async def live() -> Health:  # in the event loop: it answers whatever the threads do
    """The process answers."""
    return Health(status="ok", version=__version__)


@router.get("/health/ready", responses={503: {"model": Health, "description": "A part does not answer"}})
def ready(service: ServiceDep, response: Response) -> Health:
    """Database, schema and store answer, and the process was not asked to end: requests will be served."""
    state = _state(service)
    response.status_code = 200 if state.status == "ok" else 503
    return state


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
)
def metrics(service: ServiceDep) -> Response:
    """Figures for Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _state(service: Service) -> Health:
    checks = {
        "database": _outcome(lambda: check_head(service.database)),
        "store": _outcome(lambda: service.store.exists(_NO_BYTES)),
    }
    if service.draining.is_set():
        checks["process"] = "is ending, and still answers"
    status = "ok" if all(outcome == "ok" for outcome in checks.values()) else "degraded"
    return Health(status=status, version=__version__, checks=checks)


def _outcome(check: Callable[[], object]) -> str:
    try:
        check()
    except GrafteryError as error:
        return str(error)
    except Exception as error:  # a part that is down must not take the report of the others with it
        return type(error).__name__
    return "ok"
