"""Every setting of the service, read from the environment (prefix GRAFTERY_) and overridden by the command line."""

from __future__ import annotations

import ipaddress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from limits import parse
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from graftery.spec.access import Scope
from graftery.spec.limits import GIB, MIB, Limits

Plane = Literal["registry", "inference", "worker"]


class Settings(BaseSettings):
    """With nothing set: SQLite, a local folder and the embedded queue under `home`."""

    model_config = SettingsConfigDict(env_prefix="GRAFTERY_", env_nested_delimiter="__", extra="ignore", frozen=True)

    home: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("graftery")))
    database_url: str | None = Field(None, description="SQLAlchemy URL; by default SQLite under home")
    broker_url: str | None = Field(
        None, description="Celery broker (redis://, amqp://); by default none: workers poll the jobs table"
    )
    store_url: str | None = Field(
        None, description="Where bytes are kept (s3://bucket/prefix); by default a folder under home"
    )

    redirect_downloads_s: float | None = Field(
        None,
        ge=1,
        le=7 * 24 * 3600,
        description="With S3: answer downloads with a signed URL of the store that is good for so long; by default the "
        "service sends the bytes itself",
    )

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="Where inference answers gRPC too; 0: any free port; by default it does not"
    )
    planes: Annotated[frozenset[Plane], NoDecode] = Field(
        frozenset({"registry", "inference", "worker"}), description="What `graftery serve` runs on this machine"
    )
    workers: int = Field(1, ge=0, le=64, description="Job workers that `graftery serve` starts")

    access: Literal["auto", "keys", "open"] = Field(
        "auto",
        description="Who may ask. keys: who has one; open: everybody; auto: everybody on a loopback address, else keys",
    )
    keys_s: float = Field(5.0, ge=0, le=60, description="How long a key that was revoked may still be taken")
    rates: dict[Scope, str] = Field(
        {}, description='Requests a key, or an address without one, by the scope they need: {"infer": "100/second"}'
    )
    refused_rate: str = Field("60/minute", description="Requests with a wrong key, by address; more are answered 429")
    rates_url: str | None = Field(
        None, description="Where all processes count requests together (redis://); by default each counts its own"
    )
    body_idle_s: float = Field(60.0, gt=0, le=3600, description="A request whose body is silent for so long is ended")
    drain_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description="How long a process that is asked to end says that it is not ready and still answers, so that a proxy "
        "turns to others; more than the proxy's interval between two looks",
    )
    finish_s: float = Field(
        30.0, gt=0, le=3600, description="How long requests may then take to end; what takes longer is cut off"
    )

    limits: Limits = Field(default_factory=Limits)
    verifiers: int = Field(1, ge=1, le=64, description="Processes that check uploads")
    prechecks: int = Field(1, ge=0, le=64, description="Processes that look at a transplant before it; 0: none does")
    precheck_wait_s: float = Field(
        3.0, ge=0, le=60, description="How long an answer waits for its pre-check; what takes longer is asked for later"
    )
    free_bytes: int = Field(64 * 1024**2, ge=0, description="Refuse an upload that would leave less free than this")

    upload_part_bytes: int = Field(
        8 * MIB, ge=1, le=GIB, description="Of an upload in pieces: what is held in memory, and lost at most by a break"
    )
    upload_expires_s: float = Field(
        24 * 3600.0, gt=0, description="An upload in pieces to which nothing came for so long is given up"
    )
    quota_bytes: int | None = Field(None, ge=0, description="What a namespace may keep; by default there is no bound")
    quotas: dict[str, int] = Field(
        {}, description='JSON: what some namespaces may keep, in place of quota_bytes; "" is that of names without one'
    )

    lease_s: float = Field(15.0, gt=0, description="A job whose worker is silent for this long is taken by another")
    heartbeat_s: float = Field(1.0, gt=0)
    poll_s: float = Field(
        0.3, gt=0, description="How often a worker looks at the jobs table; 2-5 with a broker is enough"
    )
    checkpoint_s: float = Field(3.0, gt=0, description="How often a running transplant keeps its adapter")
    inversions_bytes: int = Field(
        GIB, ge=0, description="Images of inversions that a worker keeps under home for later transplants; 0: none"
    )
    max_crashes: int = Field(
        3, ge=1, description="Deaths in a row, without a new checkpoint between them, that fail a job"
    )
    certify_networks: int = Field(
        32, ge=0, description="Networks that share a module and are asked again after a transplant, the newest first"
    )
    collect_grace_s: float = Field(3600.0, ge=0, description="Bytes touched more recently are never freed")

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1")
    device_bytes: int | None = Field(
        None,
        ge=1,
        description="Memory of a worker's device: jobs that are estimated to need more are left to others; by default "
        "a GPU is asked, and a CPU takes any",
    )
    threads: int = Field(0, ge=0, description="CPU threads of a training or inference process; 0: torch decides")
    pool_bytes: int = Field(2 * 1024**3, ge=0, description="Weights held in memory for inference")
    infer_batch: int = Field(256, ge=1, description="Largest batch of an inference request")
    infer_merge: int = Field(32, ge=1, description="Rows of several inference requests that are run together at most")
    infer_delay_ms: dict[str, Annotated[float, Field(ge=0, le=60_000)]] = Field(
        {}, description="Milliseconds that a request may wait for others to be run with, by network; 0 where not named"
    )
    infer_queue: int = Field(1024, ge=1, description="Rows of inference requests that may wait; more are answered 503")
    fast_forms: Literal["auto", "off"] = Field(
        "auto", description="auto: derive a faster form of each module in the background; off: eager PyTorch"
    )
    derived_bytes: int = Field(8 * 1024**3, ge=0, description="Derived forms that are kept under home")
    feature_cache_bytes: int = Field(
        0, ge=0, description="Features that are kept by input, for repeated inputs; 0: none"
    )
    names_s: float = Field(
        0.5,
        ge=0,
        le=60,
        description="How long inference on PostgreSQL may not see a moved alias; SQLite sees it at once",
    )
    slow_request_s: float = Field(1.0, gt=0, description="An inference request that took longer is logged as slow")
    infer_body_bytes: int = Field(64 * 1024**2, ge=1, description="Largest body of an inference request, unpacked")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False

    @field_validator("planes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return frozenset(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("rates", "refused_rate")
    @classmethod
    def _readable(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        for rate in value.values() if isinstance(value, dict) else (value,):
            parse(rate)
        return value

    @cached_property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'graftery.db'}"

    def quota(self, namespace: str) -> int | None:
        """What a namespace may keep, in bytes; None: there is no bound."""
        return self.quotas.get(namespace, self.quota_bytes)

    @property
    def asks_for_keys(self) -> bool:
        """Whether requests need a key."""
        return self.access == "keys" or (self.access == "auto" and not is_loopback(self.host))

    @property
    def embedded(self) -> bool:
        """No broker: workers find their jobs by looking at the table."""
        return self.broker_url is None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; of a name that is not `localhost`, nothing is known."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
