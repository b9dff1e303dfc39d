"""Statistics: Triton's document, and the same figures for Prometheus."""

from __future__ import annotations

import threading
import time

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.batcher import Batcher
from serving.joint import FeatureCache, Took
from serving.pool import Resident
from serving.stats import STEPS, Collector, Statistics

STEPS_S = dict(zip(STEPS, (0.5, 0.001, 0.25, 0.002), strict=True))


def _filled() -> Statistics:
    made = Statistics()
    made.succeeded("m", "1", 3, 1.0, STEPS_S)
    made.succeeded("m", "1", 3, 1.0, STEPS_S)
    made.succeeded("m", "1", 1, 1.0, STEPS_S)
    made.ran({("m", "1"): 3, ("o", "1"): 2}, Took(0.001, 0.25, 0.002, {"ab": 0.125}))
    made.ran({("m", "1"): 4}, Took(0.001, 0.25, 0.002, {"ab": 0.125, "cd": 0.0625}))
    made.failed("m", "1", 0.125, "REJECTED")
    made.failed("n", "2", 0.5, "OTHER")
    return made


def test_the_document_counts_requests_and_inferences() -> None:
    found = _filled().document("m", "1", [])
    assert found["inference_count"] == 7 and found["execution_count"] == 2
    assert abs(found["last_inference"] / 1000 - time.time()) < 60
    stats = found["inference_stats"]
    assert stats["success"] == {"count": 3, "ns": 3 * 10**9}
    assert stats["fail"] == {"count": 1, "ns": 125 * 10**6}
    assert stats["queue"]["ns"] == 15 * 10**8 and stats["compute_infer"]["ns"] == 75 * 10**7
    assert [(batch["batch_size"], batch["compute_infer"]["count"]) for batch in found["batch_stats"]] == [
        (3, 1),
        (4, 1),
    ]
    assert "queue" not in found["batch_stats"][0]


def test_an_unknown_model_has_a_document_of_zeros_and_is_not_remembered() -> None:
    made = Statistics()
    found = made.document("x", "1", [])
    assert found["inference_count"] == 0 and found["inference_stats"]["success"] == {"count": 0, "ns": 0}
    assert made.known() == []


def test_known_are_those_that_were_asked() -> None:
    assert _filled().known() == [("m", "1"), ("n", "2"), ("o", "1")]


def _series(statistics: Statistics) -> dict[str, float]:
    residents = [Resident("ab", 732, 2, frozenset(), "onnxruntime")]
    batcher, cache = Batcher(lambda _jobs: ([], Took()), 10, 8), FeatureCache(0)
    for rows in (1, 3, 4, 32):
        batcher.seen.add(rows)
    batcher._requests, batcher._rows, cache.hits = 4, 9, 5
    registry = CollectorRegistry()
    registry.register(Collector(statistics, lambda: residents, batcher, cache, lambda: 6))
    text = generate_latest(registry).decode()
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_has_tritons_names() -> None:
    found = _series(_filled())
    m = "[('model', 'm'), ('version', '1')]"
    assert found["nv_inference_request_success" + m] == 3
    assert found["nv_inference_count" + m] == 7
    assert found["nv_inference_exec_count" + m] == 2
    assert found["nv_inference_request_duration_us" + m] == 3e6
    assert found["nv_inference_queue_duration_us" + m] == 1.5e6
    assert found["nv_inference_compute_infer_duration_us" + m] == 0.75e6
    assert found["nv_inference_request_failure[('model', 'n'), ('reason', 'OTHER'), ('version', '2')]"] == 1
    assert found["graftery_resident_module_bytes[('digest', 'ab'), ('form', 'onnxruntime')]"] == 732
    assert found["graftery_resident_module_users[('digest', 'ab')]"] == 2
    assert found["graftery_inference_derivations_pending[]"] == 6
    assert found["graftery_inference_pending[]"] == 4 and found["graftery_inference_queue_rows[]"] == 9
    assert found["graftery_module_seconds_count[('digest', 'ab')]"] == 2
    assert found["graftery_module_seconds_sum[('digest', 'ab')]"] == 0.25
    assert found["graftery_inference_batch_rows_bucket[('le', '4')]"] == 3
    assert found["graftery_inference_batch_rows_count[]"] == 4 and found["graftery_inference_batch_rows_sum[]"] == 40
    assert found["graftery_feature_cache_total[('found', 'hit')]"] == 5


def test_counting_from_many_threads_loses_nothing() -> None:
    made = Statistics()
    threads = [
        threading.Thread(target=lambda: [made.succeeded("m", "1", 1, 0.0, STEPS_S) for _ in range(500)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.document("m", "1", [])["inference_count"] == 4000
