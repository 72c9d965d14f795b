"""One client of the feed: what it asked for, what is on its way, what waits for its credit.

No I/O and no clock of its own. Daphne buffers without bound what a client does
not read, so no more is written than the client has said it took, plus a window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alerts.feedlog import Place
from alerts.meters import FEED_COALESCED
from mpx_site import feed_words as words
from mpx_site.feed_words import EVERYTHING, Choice, Message, Told

OUT_MAX = 500  # messages on their way without credit
OUT_BYTES = 256 << 10
WAITING_MAX = 1_000  # messages that wait behind those
WAITING_BYTES = 4 << 20
PATIENCE_SECONDS = 10.0  # for credit while the window is full

TOO_SLOW = 4408


@dataclass(slots=True)
class Subscription:
    """One channel of one client: how far it was told, and what it wants of it."""

    place: Place  # the last it was told of, passed over or not
    choice: Choice = EVERYTHING
    keys: frozenset[str] = frozenset()
    passed_over: int | None = None  # the last it was told before those its filter hides


class Listener:
    """What one client is told, in order. `write` and `end` return at once."""

    def __init__(
        self,
        write: Callable[[Sequence[Told]], None],
        end: Callable[[int], None],
        *,
        now: Callable[[], float],
    ) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.allowed: set[str] = set()  # the channels it may hear
        self.user_id: int | None = None
        self.session_key: str | None = None
        self.end = end
        self._write = write
        self._now = now
        self._waiting: deque[Told] = deque()
        self._waiting_bytes = 0
        self._room, self._room_bytes = WAITING_MAX, WAITING_BYTES
        self._latest: dict[tuple[str, str], Told] = {}
        self._out: dict[str, deque[tuple[int, int]]] = {}
        self._out_messages = self._out_bytes = 0
        self._full_since: float | None = None

    def begin(
        self, channel: str, subscription: Subscription, ack: Told, replay: Sequence[Message] = ()
    ) -> None:
        """Hear a channel from its place on, after a replay that leads there."""
        first = replay[0].seq - 1 if replay else subscription.place.seq
        end, subscription.place = subscription.place, Place(subscription.place.epoch, first)
        self.subscriptions[channel] = subscription
        self._room = WAITING_MAX + len(replay)
        self._room_bytes = WAITING_BYTES + sum(len(each.told.frame) for each in replay)
        self._wait(ack)
        self.take(replay)
        subscription.place = end

    def take(self, messages: Sequence[Message]) -> None:
        """Tell what is new in the channels this client hears."""
        for message in messages:
            subscription = self.subscriptions.get(message.channel)
            if subscription is not None:
                self._judge(subscription, message)
        self._pump()

    def take_latest(self, messages: Sequence[Message]) -> None:
        """Tell values of which only the latest count: a newer one replaces one that waits."""
        for message in messages:
            subscription = self.subscriptions.get(message.channel)
            if subscription is not None and message.key in (subscription.keys or {message.key}):
                place = message.channel, message.key
                if place in self._latest:
                    FEED_COALESCED.inc()
                self._latest[place] = message.told
        self._pump()

    def drop(self, channel: str) -> bool:
        """Hear a channel no more; return whether it was heard. What waits still comes."""
        self._latest = {at: told for at, told in self._latest.items() if at[0] != channel}
        return self.subscriptions.pop(channel, None) is not None

    def say(self, told: Told) -> None:
        """Tell something that asks for no credit, in its turn."""
        self._wait(told)
        self._pump()

    def beat(self, heartbeat: Told) -> None:
        """Tell the time. By then the client has heard of all that the heartbeat names."""
        for channel, subscription in self.subscriptions.items():
            self._own_up(channel, subscription)
        self.say(heartbeat)

    def gap(self, channel: str, place: Place) -> None:
        """Say that what lies before `place` will not come."""
        subscription = self.subscriptions.get(channel)
        if subscription is None:
            return
        same = subscription.place.epoch == place.epoch
        hidden = subscription.passed_over
        after = subscription.place.seq if hidden is None else hidden
        subscription.place, subscription.passed_over = place, None
        if not same:  # any credit of the new epoch covers what is out of the old one
            self._out[channel] = deque((0, size) for _, size in self._out.get(channel, ()))
        self.say(words.gap(channel, after=after if same else None, place=place))

    def credit(self, seqs: Mapping[str, int]) -> None:
        """Take note of what the client took."""
        freed = False
        for channel, seq in seqs.items():
            out = self._out.get(channel)
            while out and out[0][0] <= seq:
                self._out_bytes -= out.popleft()[1]
                self._out_messages -= 1
                freed = True
        if freed:
            self._full_since = None
            self._pump()

    def check(self, now: float) -> None:
        """Let a client go that has been silent too long with its window full."""
        if self._full_since is not None and now - self._full_since > PATIENCE_SECONDS:
            self.end(TOO_SLOW)

    def forget(self) -> None:
        """Drop everything; nothing will be written any more."""
        self.subscriptions.clear()
        self._waiting.clear()
        self._waiting_bytes = 0
        self._latest.clear()

    @property
    def is_full(self) -> bool:
        return self._out_messages > OUT_MAX or self._out_bytes > OUT_BYTES

    def _judge(self, subscription: Subscription, message: Message) -> None:
        before, subscription.place = (
            subscription.place,
            Place(subscription.place.epoch, message.seq),
        )
        if words.chosen(subscription.choice, message):
            self._own_up(message.channel, subscription, upto=before)
            self._wait(message.told)
        elif subscription.passed_over is None:
            subscription.passed_over = before.seq

    def _own_up(
        self, channel: str, subscription: Subscription, *, upto: Place | None = None
    ) -> None:
        """Name what the filter passed over, so that no number is missing unexplained."""
        if subscription.passed_over is not None:
            place = upto or subscription.place
            self._wait(words.skip(channel, after=subscription.passed_over, place=place))
            subscription.passed_over = None

    def _wait(self, told: Told) -> None:
        self._waiting.append(told)
        self._waiting_bytes += len(told.frame)

    def _pump(self) -> None:
        """Write what the window takes; let the client go if too much waits behind it."""
        ready: list[Told] = []
        while self._waiting and not self.is_full:
            told = self._waiting.popleft()
            self._waiting_bytes -= len(told.frame)
            ready.append(self._booked(told))
        while self._latest and not self.is_full:
            ready.append(self._booked(self._latest.pop(next(iter(self._latest)))))
        if ready:
            self._write(ready)
        if not self._waiting:
            self._room, self._room_bytes = WAITING_MAX, WAITING_BYTES
        if self.is_full and self._full_since is None:
            self._full_since = self._now()
        if len(self._waiting) > self._room or self._waiting_bytes > self._room_bytes:
            self.end(TOO_SLOW)

    def _booked(self, told: Told) -> Told:
        if told.channel:
            size = len(told.frame)
            self._out.setdefault(told.channel, deque()).append((told.seq, size))
            self._out_messages += 1
            self._out_bytes += size
        return told
