"""Several stream processes share the venue by shards: who has which, and who takes over.

Every second a process says that it is there, renews the leases of its shards and takes what
is free, up to its part. A process that dies is replaced once its lease has run out. One that
stood still or had no database finds its shard taken, and stores nothing of it any more: each
transaction of the writer and of the paper venue proves first that the lease is still theirs
(`markets.lease.Claim`). While the database is away nobody can take anything, and whoever reaches
it first afterwards leaves the others time for theirs, so what is found meanwhile is told then.

With one shard a second process waits as a spare.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from django.db.models.functions import Now

from alerts import shared_beats
from alerts.watchdog import SHARED
from markets import lease
from markets.models import Lease
from markets.shard_rows import placement_now
from markets.shards import Placement
from signals.share import STREAM, Share

log = structlog.stdlib.get_logger(__name__)

PASS_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 5.0  # with a pass and the start of a stream under the 10 s promised
PLACE_SECONDS: Final = 2.0  # between two looks at how events are connected
OVER_SECONDS: Final = 5.0  # of having too many before one is handed over
# After an outage all leases have run out: so long the others have to come back for theirs.
STEADY_SECONDS: Final = 3.0
SHARD: Final = "stream-shard-"
THERE: Final = "stream-at-"
HOW_MANY: Final = "stream-shards"  # its holder is the number that all must agree on


def shards_here(shards: int) -> tuple[str, ...]:
    """Return the names of the shards that a process on this host holds now."""
    rows = Lease.objects.filter(name__in=[f"{SHARD}{n}" for n in range(shards)], until__gt=Now())
    ours = rows.filter(holder__startswith=lease.of_this_host()).values_list("name")
    names = shared_beats.part_names(STREAM, shards)
    return tuple(names[int(name.removeprefix(SHARD))] for (name,) in ours.order_by("name"))


def is_here() -> bool:
    """Say whether a process on this host has told lately that it is there."""
    rows = Lease.objects.filter(name__startswith=f"{THERE}{socket.gethostname()[:30]}-")
    return rows.filter(until__gt=Now()).exists()


class Stream(Protocol):
    """What runs on a shard: a `LiveThread`."""

    failed: BaseException | None

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def is_alive(self) -> bool: ...


class _Held:
    """A shard of ours and what runs on it."""

    def __init__(self, share: Share, stream: Stream) -> None:
        self.share = share
        self.stream = stream
        self.leaving = False

    def leave(self) -> None:
        """Ask it to end, without waiting: it stores what it has first."""
        if not self.leaving:
            self.leaving = True
            threading.Thread(target=self.stream.stop, daemon=True).start()


class Sharing(threading.Thread):
    """Runs a stream on each shard that is ours until it is stopped, or one of them ends.

    `make` gives the stream of a share, not yet started. `failed` is the exception that ended
    one, if one did.
    """

    def __init__(self, shards: int, make: Callable[[Share], Stream]) -> None:
        super().__init__(name="sharing", daemon=True)
        self.failed: BaseException | None = None
        self._shards = shards
        self._make = make
        self._held: dict[int, _Held] = {}
        self._stopping = threading.Event()
        self._there = f"{THERE}{socket.gethostname()[:30]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._over_since: float | None = None
        self._waited = False
        self._placement = Placement(shards, {})
        self._placed_at = float("-inf")
        self._passed_at = self._steady_from = time.monotonic()

    def stop(self) -> None:
        """Ask all streams to end and hand their shards over. Join it to wait."""
        self._stopping.set()

    def run(self) -> None:
        try:
            self._begin()
            while not self._stopping.is_set():
                self._pass()
                self._stopping.wait(PASS_SECONDS)
        except BaseException as error:  # told to whoever started the thread
            self.failed = self.failed or error
            log.exception("sharing.failed")
        finally:
            self._end()
            connections.close_all()

    def _begin(self) -> None:
        lease.lay_out([*(f"{SHARD}{n}" for n in range(self._shards)), HOW_MANY])
        self._say_there()
        self._passed_at = time.monotonic()

    def _pass(self) -> None:
        """Do what is due; a database that is away changes nothing about who has what."""
        try:
            self._look_after()
            self._say_there()
            self._renew()
            self._place()
            steady = self._is_steady()
            if self._agreed(steady=steady) and steady:
                self._level()
        except (DatabaseError, InterfaceError) as error:
            log.warning("sharing.retry", error=str(error))
        finally:
            close_old_connections()  # not each thread of many shards can keep one

    # --- what is held ----------------------------------------------------------------

    def _look_after(self) -> None:
        """See what has ended: shards that were left are given back; by itself it ends us all."""
        for number, held in list(self._held.items()):
            if held.share.lost:
                held.leave()
            if held.stream.is_alive():
                continue
            if held.leaving:
                self._let_go(number)
            else:
                self._note(held)
                self._stopping.set()

    def _note(self, held: _Held) -> None:
        """Remember what a stream failed of; that its shard was taken is no failure."""
        if not held.share.lost:
            self.failed = self.failed or held.stream.failed

    def _let_go(self, number: int) -> None:
        held = self._held[number]
        if not held.share.lost:
            held.share.claim.give_back()
        del self._held[number]
        log.info("shard.left", shard=number, lost=held.share.lost)

    def _renew(self) -> None:
        for number, held in self._held.items():
            if not held.share.lost and not held.share.claim.renew(seconds=LEASE_SECONDS):
                held.share.lost = True
                log.error("shard.lost", shard=number)

    def _place(self) -> None:
        """See how events are connected now, and tell the shares."""
        now = time.monotonic()
        if now - self._placed_at < PLACE_SECONDS:
            return
        self._placement, self._placed_at = placement_now(self._shards), now
        for held in self._held.values():
            held.share.use(self._placement, now=now)

    # --- what is taken ---------------------------------------------------------------

    def _say_there(self) -> None:
        until = Now() + timedelta(seconds=LEASE_SECONDS)
        if not Lease.objects.filter(pk=self._there).update(until=until):
            Lease.objects.create(name=self._there, holder=self._there, until=until)
        gone = Lease.objects.filter(name__startswith=THERE)
        gone.filter(until__lt=Now() - timedelta(minutes=1)).delete()

    def _agreed(self, *, steady: bool) -> bool:
        """Say whether all processes cut the venue into as many shards as we do."""
        ours = Lease.objects.filter(pk=HOW_MANY, holder=str(self._shards))
        if steady:
            ours |= Lease.objects.filter(pk=HOW_MANY, until__lte=Now())
        until = Now() + timedelta(seconds=LEASE_SECONDS)
        agreed = ours.update(holder=str(self._shards), until=until) == 1
        if not agreed:
            self._wait("others run with another MPX_STREAM_SHARDS")
        return agreed

    def _is_steady(self) -> bool:
        """Say whether our passes have come one after the other lately, as those of others will."""
        now = time.monotonic()
        if now - self._passed_at > STEADY_SECONDS:
            self._steady_from = now + STEADY_SECONDS
        self._passed_at = now
        return now >= self._steady_from

    def _level(self) -> None:
        """Take a free shard if we have less than our part; hand one over if we have more."""
        there = Lease.objects.filter(name__startswith=THERE, until__gt=Now()).count()
        part = math.ceil(self._shards / max(there, 1))
        staying = [number for number, held in self._held.items() if not held.leaving]
        if len(staying) <= part:
            self._over_since = None
        if len(staying) < part:
            self._take(part - len(staying))
        elif len(staying) > part:
            self._hand_over(max(staying))

    def _hand_over(self, number: int) -> None:
        """Leave a shard to whoever has come, once it is sure that they stay."""
        now = time.monotonic()
        self._over_since = now if self._over_since is None else self._over_since
        if now - self._over_since >= OVER_SECONDS:
            self._over_since = None
            log.info("shard.handed_over", shard=number)
            self._held[number].leave()

    def _take(self, most: int) -> None:
        wanted = [n for n in range(self._shards) if n not in self._held]
        for _ in range(most):
            claim = lease.claim_one([f"{SHARD}{n}" for n in wanted], seconds=LEASE_SECONDS)
            if claim is None:
                self._wait("all shards are taken; this process is a spare")
                return
            number = int(claim.name.removeprefix(SHARD))
            wanted.remove(number)
            self._open(number, claim)

    def _open(self, number: int, claim: lease.Claim) -> None:
        for component in SHARED:
            shared_beats.forget_others(component, self._shards)
        share = Share(number, claim, self._placement)
        held = self._held[number] = _Held(share, self._make(share))
        held.stream.start()
        self._waited = False
        log.info("shard.taken", shard=number, shards=self._shards, was_lost=claim.was_lost)

    def _wait(self, why: str) -> None:
        if not self._waited and not self._held:
            self._waited = True
            log.info("stream.waits", why=why)

    # --- the end ---------------------------------------------------------------------

    def _end(self) -> None:
        """End all streams, holding their leases meanwhile, and give everything back."""
        for held in self._held.values():
            held.leave()
        self._try(lambda: Lease.objects.filter(pk=self._there).delete())
        while self._held:
            for number, held in list(self._held.items()):
                if not held.stream.is_alive():
                    self._note(held)
                    if not self._try(partial(self._let_go, number)):
                        del self._held[number]  # the lease runs out by itself
            self._try(self._renew)
            time.sleep(PASS_SECONDS / 10)

    def _try(self, act: Callable[[], object]) -> bool:
        try:
            close_old_connections()
            act()
        except (DatabaseError, InterfaceError) as error:
            log.warning("sharing.retry", error=str(error))
            return False
        return True
