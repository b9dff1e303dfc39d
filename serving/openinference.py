"""The routes under /v2: the Open Inference Protocol (KServe V2) with Triton's binary tensors and extensions.

Success is exactly 200, an error is `{"error": "..."}`: tritonclient and KServe's clients rely on both.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import prometheus_client
from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from graftery.errors import GrafteryError, InferenceRefused
from graftery.spec.names import NAME_PATTERN, REFERENCE_PATTERN
from registry.access.guard import Guard
from registry.db import Database
from registry.settings import Settings
from registry.store import Store
from serving import bodies
from serving.documents import (
    ErrorDocument,
    IndexEntry,
    InferReply,
    Live,
    ModelMetadata,
    ModelNames,
    ModelReady,
    ModelState,
    Ready,
    ServerMetadata,
)
from serving.errors import Elsewhere, InferenceRoute
from serving.grpc.lifespan import grpc_beside
from serving.http import BINARY, HEADER_LENGTH, Direct, answer, rehearse
from serving.protocol import InferRequest
from serving.service import Serving

SMALL_BODY_BYTES = 64 * 1024
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorDocument, "description": "The request is not valid"},
    404: {"model": ErrorDocument, "description": "There is no such model or version"},
    413: {"model": ErrorDocument, "description": "The body is over the size limit"},
    415: {"model": ErrorDocument, "description": "The Content-Encoding is not supported"},
    500: {"model": ErrorDocument, "description": "The service met an error of its own"},
    503: {"model": ErrorDocument, "description": "Not ready, or full: retry after the seconds of Retry-After"},
    504: {"model": ErrorDocument, "description": "The request was not run within its timeout"},
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    # Any other error has the same form; without `default`, FastAPI would document its own 422, which is never sent.
    rest = {"default": {"model": ErrorDocument, "description": "Any other error"}}
    return {status: _ERRORS[status] for status in (*statuses, 500, 503)} | rest


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


ServingDep = Annotated[Serving, Depends(_serving)]
NamePath = Annotated[
    str,
    Path(
        description="name, name:3 or name@alias (also as %40)",
        json_schema_extra={"pattern": f"^{REFERENCE_PATTERN}$"},
        examples=["cat-in-animals"],
    ),
]
PlainNamePath = Annotated[str, Path(json_schema_extra={"pattern": f"^{NAME_PATTERN}$"}, examples=["cat-in-animals"])]
"""Where the path names the version: a name, and nothing about a version in it."""
VersionPath = Annotated[str, Path(json_schema_extra={"pattern": "^[1-9][0-9]{0,8}$"}, examples=["1"])]

router = APIRouter(prefix="/v2", tags=["inference"], route_class=InferenceRoute, responses=_errors())


@router.get("")
def server_metadata() -> ServerMetadata:
    """What this server is, and which extensions of the protocol it has."""
    return ServerMetadata()


@router.get("/health/live")
async def server_live() -> Live:  # in the event loop: it answers whatever the threads do
    """The process answers."""
    return Live()


@router.get("/health/ready")
def server_ready(serving: ServingDep) -> Ready:
    """The database answers, so models can be found, and the process was not asked to end."""
    serving.check_up()
    return Ready()


@router.get("/models")
def served_models(serving: ServingDep) -> ModelNames:
    """Names that can be asked."""
    return ModelNames(models=sorted({entry.name for entry in serving.index()}))


@router.get("/models/stats")
def all_statistics(serving: ServingDep) -> dict[str, Any]:
    """Statistics of every model that was asked since the process began."""
    return serving.stats()


@router.get("/models/{name}", responses=_errors(404))
def model_metadata(serving: ServingDep, name: NamePath) -> ModelMetadata:
    """Inputs and outputs of the version that the name leads to now."""
    return serving.metadata(name)


@router.get("/models/{name}/versions/{version}", responses=_errors(400, 404))
def model_version_metadata(serving: ServingDep, name: PlainNamePath, version: VersionPath) -> ModelMetadata:
    """Inputs and outputs of one version."""
    return serving.metadata(name, version)


@router.get("/models/{name}/ready", responses=_errors(404))
def model_ready(serving: ServingDep, name: NamePath) -> ModelReady:
    """Whether the model can be asked; 503 says why not. It is loaded when it is first asked, if not before."""
    return ModelReady(name=serving.check_ready(name).name)


@router.get("/models/{name}/versions/{version}/ready", responses=_errors(400, 404))
def model_version_ready(serving: ServingDep, name: PlainNamePath, version: VersionPath) -> ModelReady:
    """Whether one version can be asked."""
    return ModelReady(name=serving.check_ready(name, version).name)


@router.get("/models/{name}/config", responses=_errors(404))
def model_config(serving: ServingDep, name: NamePath) -> dict[str, Any]:
    """Triton's model configuration."""
    return serving.config(name)


@router.get("/models/{name}/versions/{version}/config", responses=_errors(400, 404))
def model_version_config(serving: ServingDep, name: PlainNamePath, version: VersionPath) -> dict[str, Any]:
    """Triton's model configuration of one version."""
    return serving.config(name, version)


@router.get("/models/{name}/stats", responses=_errors(404))
def model_statistics(serving: ServingDep, name: NamePath) -> dict[str, Any]:
    """Statistics of a name's versions, in Triton's form."""
    return serving.stats(name)


@router.get("/models/{name}/versions/{version}/stats", responses=_errors(400, 404))
def model_version_statistics(serving: ServingDep, name: PlainNamePath, version: VersionPath) -> dict[str, Any]:
    """Statistics of one version, in Triton's form."""
    return serving.stats(name, version)


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without `$defs`: its references would lead nowhere inside the OpenAPI document."""
    definitions = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict) and "$ref" in value:
            return resolved(definitions[value["$ref"].rsplit("/", 1)[-1]])
        if isinstance(value, dict):
            return {key: resolved(item) for key, item in value.items()}
        return [resolved(item) for item in value] if isinstance(value, list) else value

    found: dict[str, Any] = resolved(schema)
    return found


_INFER: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        **_errors(400, 404, 413, 415, 504),
        200: {
            "description": "JSON, or JSON and then the outputs' bytes",
            "model": InferReply,
            "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
        },
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": HEADER_LENGTH,
                "in": "header",
                "required": False,
                "description": "Bytes of JSON before the tensors' bytes; without it the body is JSON",
                "schema": {"type": "string", "pattern": "^[0-9]{1,12}$"},
            }
        ],
        "requestBody": {
            "required": True,
            "description": "JSON, or JSON and then the tensors' bytes; gzip and deflate as Content-Encoding says",
            "content": {
                "application/json": {"schema": _inlined(InferRequest.model_json_schema())},
                BINARY: {"schema": {"type": "string", "format": "binary"}},
            },
        },
    },
}


@router.post("/models/{name}/infer", **_INFER)
async def infer(serving: ServingDep, name: NamePath, request: Request) -> Response:
    """Run the version that the name leads to now: an alias that was moved is seen at once."""
    return await answer(serving, name, None, request)


@router.post("/models/{name}/versions/{version}/infer", **_INFER)
async def infer_version(serving: ServingDep, name: PlainNamePath, version: VersionPath, request: Request) -> Response:
    """Run one version."""
    return await answer(serving, name, version, request)


@router.post("/repository/index", responses=_errors(400, 413))
async def repository_index(serving: ServingDep, request: Request) -> list[IndexEntry]:
    """Every version that can be asked, with its state; `{"ready": true}` leaves out what is not ready."""
    wanted = (await _options(request)).get("ready", False)
    if not isinstance(wanted, bool):
        raise InferenceRefused(f"ready: expected true or false, got {wanted!r}")
    return await run_in_threadpool(serving.index, wanted)


@router.post("/repository/models/{name}/load", responses=_errors(400, 404, 413))
async def load_model(serving: ServingDep, name: NamePath, request: Request) -> ModelState:
    """Have a model in memory before it is first asked, and take back an unload."""
    parameters = (await _options(request)).get("parameters") or {}
    if parameters:
        raise InferenceRefused("load takes no parameters: models come from the registry, as they were published")
    model = await serving.load(name)
    with suppress(GrafteryError):  # whether it can be loaded is what was asked
        await rehearse(serving, model)
    return ModelState(name=model.name, version=model.version, state="READY")


@router.post("/repository/models/{name}/unload", responses=_errors(400, 404))
def unload_model(serving: ServingDep, name: NamePath) -> ModelState:
    """Give a model's memory back. It is refused until it is loaded again, or until this process is started anew."""
    model = serving.unload(name)
    return ModelState(name=model.name, version=model.version, state="UNAVAILABLE")


async def _options(request: Request) -> dict[str, Any]:
    """The JSON object of a request that needs none."""
    body = await bodies.read(request, SMALL_BODY_BYTES)
    try:
        found = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InferenceRefused(f"the request's JSON cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise InferenceRefused("the request's JSON is no object")
    return found


def mount(app: FastAPI, settings: Settings, database: Database, store: Store, guard: Guard | None = None) -> Direct:
    """Add the inference plane to an app: the routes under /v2, and while the app runs, figures for Prometheus and gRPC.

    Returns:
        What the app should ask before anything else.

    `app.state.serving` is the `Serving` behind the routes; it ends with the app's lifespan. `app.state.grpc_port` is the
    port on which gRPC answers, None where it does not. gRPC asks the guard itself; HTTP is guarded by the app around.
    """
    serving = Serving(settings, database, store)
    door = guard or Guard(settings, database)
    app.state.serving, app.state.grpc_port = serving, None
    app.include_router(router)
    # Any method, so that the app around never answers under /v2 in another form than the protocol's.
    app.router.routes += [Route(path, Elsewhere(), include_in_schema=False) for path in ("/v2", "/v2/{rest:path}")]
    described = {"{version}" in route.path: route for route in router.routes if route.path.endswith("/infer")}  # type: ignore[attr-defined]
    around = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        prometheus_client.REGISTRY.register(serving.collector)
        try:
            async with around(app) as state:
                try:
                    async with grpc_beside(serving, door) as app.state.grpc_port:
                        yield state
                finally:
                    serving.close()
        finally:
            prometheus_client.REGISTRY.unregister(serving.collector)

    app.router.lifespan_context = lifespan
    return Direct(serving, described)
