"""Whether the broker of the jobs works: it answers, and takes what is written to it."""

from __future__ import annotations

import time
from datetime import datetime
from functools import lru_cache
from typing import Final

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from alerts import journal

BROKER: Final = "broker"
TIMEOUT_SECONDS: Final = 1.0
SIGN, KEPT_SECONDS = "mpx.sign_of_life", 60


def look(*, at: datetime) -> bool:
    """Note a sign of life of the broker; False if it gave none. True where there is no broker.

    It is written to as well: a Redis that is full still answers a ping.
    """
    if not settings.REDIS_URL:
        return True
    begun = time.monotonic()
    try:
        depths = _depths()
    except redis.RedisError:
        return False
    took = round((time.monotonic() - begun) * 1_000, 1)
    journal.beat(BROKER, at=at, progress=sum(depths.values()), queues=depths, ms=took)
    return True


def _depths() -> dict[str, int]:
    """Return how many jobs wait in each queue."""
    queues = [queue.name for queue in settings.CELERY_TASK_QUEUES]
    with _client(settings.REDIS_URL).pipeline(transaction=False) as asked:
        asked.set(SIGN, "", ex=KEPT_SECONDS)
        for queue in queues:
            asked.llen(queue)
        _, *depths = asked.execute()
    return dict(zip(queues, depths, strict=True))


@lru_cache(maxsize=1)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
