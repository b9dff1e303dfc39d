"""The wake-up: one message, the id of a job; whatever happens to it, nobody waits and nothing is raised."""

from __future__ import annotations

import json
import socket
import time

import pytest
import redis
from celery import Celery

from registry import queue
from registry.settings import Settings


def test_a_message_is_the_id_of_a_job(redis_url: str) -> None:
    queue.wake(Settings(broker_url=redis_url), "some-job")
    with redis.Redis.from_url(redis_url) as server:
        (message,) = server.lrange(queue.QUEUE, 0, -1)
    envelope = json.loads(message)
    assert envelope["headers"]["task"] == queue.RUN_JOB
    assert envelope["headers"]["argsrepr"] == "['some-job']"
    assert envelope["headers"]["expires"] is not None, "a message that nobody took for an hour says nothing"


def test_without_a_broker_there_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_waker", lambda _: pytest.fail("nothing is to be sent"))
    queue.wake(Settings(), "some-job")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_refuses_is_no_error(scheme: str) -> None:
    settings = Settings(broker_url=f"{scheme}://127.0.0.1:1/0")
    queue.wake(settings, "warm-up: imports")
    queue._waker.cache_clear()
    started = time.monotonic()
    queue.wake(settings, "some-job")
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_does_not_answer_costs_a_second_once(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = Settings(broker_url=f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/0")
        started = time.monotonic()
        queue.wake(settings, "some-job")
        assert time.monotonic() - started < 3
        started = time.monotonic()
        queue.wake(settings, "another-job")
        assert time.monotonic() - started < 0.1


def test_a_broker_that_is_back_is_used_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(broker_url=redis_url)
    send_task = Celery.send_task
    monkeypatch.setattr(Celery, "send_task", lambda *_, **__: (_ for _ in ()).throw(OSError("gone")))
    monkeypatch.setattr(queue, "_SILENCE_S", 0.0)
    queue.wake(settings, "lost")
    monkeypatch.setattr(Celery, "send_task", send_task)
    queue.wake(settings, "sent")
    with redis.Redis.from_url(redis_url) as server:
        assert server.llen(queue.QUEUE) == 1


@pytest.mark.parametrize("broker_url", [None, "redis://localhost/0", "amqp://localhost"])
def test_what_every_broker_has_in_common(broker_url: str | None) -> None:
    conf = queue.celery_app(Settings(broker_url=broker_url)).conf
    assert conf.accept_content == ["json"], "a message is never unpickled"
    assert conf.task_acks_late is False and conf.task_ignore_result is True
    assert (conf.worker_pool, conf.worker_concurrency, conf.worker_prefetch_multiplier) == ("threads", 1, 1)
    assert conf.worker_disable_prefetch is (broker_url is not None and broker_url.startswith("redis"))
