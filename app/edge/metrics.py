"""Figures for Prometheus: requests as they happen, jobs and bytes as the tables have them when asked."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from registry import catalogue, jobs
from registry.db import Database

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
# Any other is counted together: a client can make up as many as it likes.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class TableFigures:
    """Jobs by state, versions by kind and bytes in the store, read from the tables at each scrape."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        with self._database.read() as session:
            found, states, largest = catalogue.figures(session), jobs.counts(session), jobs.largest_queued(session)
        yield _by_label("graftery_jobs", "Jobs by state", "state", states)
        yield _by_label("graftery_versions", "Versions by kind", "kind", found.versions)
        yield GaugeMetricFamily("graftery_queued_job_bytes", "Largest estimate of a queued job's memory", value=largest)
        yield GaugeMetricFamily("graftery_store_bytes", "Bytes that the store holds", value=found.size_bytes)
        yield GaugeMetricFamily("graftery_store_blobs", "Files that the store holds", value=found.blobs)

    def describe(self) -> list[Metric]:
        return []  # asked at registration, when the tables may not be there yet


def _by_label(name: str, text: str, label: str, counts: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


class Metrics:
    """One registry an app, so that two apps in one process (tests) do not count each other's requests."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """Series that were used before: `labels` looks each of them up under a lock."""
        self.registry.register(TableFigures(database))
        labels = ("method", "route", "status")
        self._requests = Counter("graftery_http_requests", "Requests answered", labels, registry=self.registry)
        self._seconds = Histogram(
            "graftery_http_request_seconds",
            "Time to the end of the answer",
            ("method", "route"),
            buckets=BUCKETS_S,
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method if method in METHODS else "other", route, status)
        known = self._known.get(key)
        if known is None:
            counter = self._requests.labels(key[0], route, str(status))
            known = self._known[key] = (counter, self._seconds.labels(key[0], route))
        known[0].inc()
        known[1].observe(seconds)

    def text(self) -> bytes:
        """This app's figures and those of the process (serving's among them) in Prometheus' text format."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)
