"""What happened to each model's requests: Triton's statistics document, and the same figures for Prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
    UnknownMetricFamily,
)

from serving.batcher import Batcher
from serving.joint import FeatureCache, Took
from serving.pool import Resident

NS = 1_000_000_000
STEPS = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass
class Tally:
    """How often, and how long together."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += int(seconds * NS)

    def document(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass
class _Model:
    inferences: int = 0
    executions: int = 0
    last_ms: int = 0
    success: Tally = field(default_factory=Tally)
    fail: Tally = field(default_factory=Tally)
    failures: dict[str, int] = field(default_factory=dict)
    steps: dict[str, Tally] = field(default_factory=lambda: {step: Tally() for step in STEPS})
    batches: dict[int, dict[str, Tally]] = field(default_factory=dict)


class Statistics:
    """Figures by model name and version, and by part, since the process began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[tuple[str, str], _Model] = {}
        self._parts: dict[str, Tally] = {}

    def succeeded(self, name: str, version: str, rows: int, total_s: float, steps_s: Mapping[str, float]) -> None:
        """Count an answered request. `steps_s` has the seconds of each of STEPS."""
        with self._lock:
            model = self._models.setdefault((name, version), _Model())
            model.inferences += rows
            model.last_ms = int(time.time() * 1000)
            model.success.add(total_s)
            for step, seconds in steps_s.items():
                model.steps[step].add(seconds)

    def ran(self, rows: Mapping[tuple[str, str], int], took: Took) -> None:
        """Count a run: the rows in it by model name and version, whose requests it answers together."""
        steps_s = {"compute_input": took.input_s, "compute_infer": took.infer_s, "compute_output": took.output_s}
        with self._lock:
            for key, count in rows.items():
                model = self._models.setdefault(key, _Model())
                model.executions += 1
                by_batch = model.batches.setdefault(count, {step: Tally() for step in steps_s})
                for step, seconds in steps_s.items():
                    by_batch[step].add(seconds)
            for digest, seconds in took.parts_s.items():
                self._parts.setdefault(digest, Tally()).add(seconds)

    def failed(self, name: str, version: str, total_s: float, reason: str) -> None:
        """Count a request that was refused or failed. `reason` is one of Triton's: REJECTED, BACKEND, OTHER."""
        with self._lock:
            model = self._models.setdefault((name, version), _Model())
            model.fail.add(total_s)
            model.failures[reason] = model.failures.get(reason, 0) + 1

    def known(self) -> list[tuple[str, str]]:
        """The names and versions that were asked."""
        with self._lock:
            return sorted(self._models)

    def parts(self) -> list[tuple[str, Tally]]:
        """How often each module ran, and for how long, by digest."""
        with self._lock:
            return [(digest, Tally(tally.count, tally.ns)) for digest, tally in sorted(self._parts.items())]

    def document(self, name: str, version: str, memory: list[dict[str, Any]]) -> dict[str, Any]:
        """One entry of `model_stats`."""
        with self._lock:
            model = self._models.get((name, version), _Model())
            inference = {"success": model.success.document(), "fail": model.fail.document()}
            inference |= {step: tally.document() for step, tally in model.steps.items()}
            inference |= {"cache_hit": Tally().document(), "cache_miss": Tally().document()}
            return {
                "name": name,
                "version": version,
                "last_inference": model.last_ms,
                "inference_count": model.inferences,
                "execution_count": model.executions,
                "inference_stats": inference,
                "batch_stats": [
                    {"batch_size": size} | {step: tally.document() for step, tally in steps.items()}
                    for size, steps in sorted(model.batches.items())
                ],
                "response_stats": {},
                "memory_usage": memory,
            }

    def metrics(self) -> Iterator[Metric]:
        """Triton's series, under Triton's names (without the suffix `_total`, so untyped)."""
        with self._lock:
            models = {key: self._figures(model) for key, model in self._models.items()}
            failures = {key: dict(model.failures) for key, model in self._models.items()}
        for name, text in _SERIES.items():
            family = UnknownMetricFamily(name, text, labels=["model", "version"])
            for key, figures in sorted(models.items()):
                family.add_metric(key, figures[name])
            yield family
        failed = UnknownMetricFamily(
            "nv_inference_request_failure", "Requests that failed", labels=["model", "version", "reason"]
        )
        for key, by_reason in sorted(failures.items()):
            for reason, count in sorted(by_reason.items()):
                failed.add_metric([*key, reason], count)
        yield failed

    def _figures(self, model: _Model) -> dict[str, float]:
        us = {step: tally.ns / 1000 for step, tally in model.steps.items()}
        return {
            "nv_inference_request_success": model.success.count,
            "nv_inference_count": model.inferences,
            "nv_inference_exec_count": model.executions,
            "nv_inference_request_duration_us": model.success.ns / 1000,
            "nv_inference_queue_duration_us": us["queue"],
            "nv_inference_compute_input_duration_us": us["compute_input"],
            "nv_inference_compute_infer_duration_us": us["compute_infer"],
            "nv_inference_compute_output_duration_us": us["compute_output"],
        }


_SERIES = {
    "nv_inference_request_success": "Requests that were answered",
    "nv_inference_count": "Inferences: a batch of n counts n",
    "nv_inference_exec_count": "Runs of the network",
    "nv_inference_request_duration_us": "Microseconds from the request to its answer, summed",
    "nv_inference_queue_duration_us": "Microseconds of waiting, for memory and for the engine, summed",
    "nv_inference_compute_input_duration_us": "Microseconds of reading inputs, summed",
    "nv_inference_compute_infer_duration_us": "Microseconds of running networks, summed",
    "nv_inference_compute_output_duration_us": "Microseconds of writing outputs, summed",
}


class Collector:
    """What Prometheus gets from the inference plane: statistics, the queue, its runs, and series of each module."""

    def __init__(
        self,
        statistics: Statistics,
        residents: Callable[[], list[Resident]],
        batcher: Batcher,
        cache: FeatureCache,
        pending: Callable[[], int] = lambda: 0,
    ) -> None:
        self._statistics, self._residents = statistics, residents
        self._batcher, self._cache, self._pending = batcher, cache, pending

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._statistics.metrics()
        for name, text, value in (
            ("pending", "Requests that wait for the nets or run", self._batcher.requests),
            ("queue_rows", "Rows that wait for the nets or run", self._batcher.rows),
            ("derivations_pending", "Modules whose faster form is waited for", self._pending()),
        ):
            yield GaugeMetricFamily(f"graftery_inference_{name}", text, value=value)
        yield self._batches()
        cached = CounterMetricFamily(
            "graftery_feature_cache", "Inputs whose features were there, or not", labels=["found"]
        )
        cached.add_metric(["hit"], self._cache.hits)
        cached.add_metric(["miss"], self._cache.misses)
        yield cached
        yield from self._modules()

    def _batches(self) -> Metric:
        seen, below, buckets = self._batcher.seen, 0, []
        for size in sorted(seen.by_rows):
            below += seen.by_rows[size]
            buckets.append((str(size), below))
        return HistogramMetricFamily(
            "graftery_inference_batch_rows",
            "Rows that were run together",
            buckets=[*buckets, ("+Inf", below)],
            sum_value=seen.rows,
        )

    def _modules(self) -> Iterator[Metric]:
        resident = GaugeMetricFamily(
            "graftery_resident_module_bytes", "Weights of a module in memory", labels=["digest", "form"]
        )
        in_use = GaugeMetricFamily(
            "graftery_resident_module_users", "Requests that hold a module in memory", labels=["digest"]
        )
        for module in self._residents():
            resident.add_metric([module.digest, module.form], module.size_bytes)
            in_use.add_metric([module.digest], module.users)
        yield resident
        yield in_use
        calls = SummaryMetricFamily(
            "graftery_module_seconds", "Calls of a module, each for the rows of a batch", labels=["digest"]
        )
        for digest, tally in self._statistics.parts():
            calls.add_metric([digest], tally.count, tally.ns / NS)
        yield calls
