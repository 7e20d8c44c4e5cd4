"""Which pod of a model gets the next request: the one that knows the conversation, unless it is busier than its share.

Rendezvous hashing (Thaler and Ravishankar, 1998) ranks the pods for an affinity key, so that a conversation keeps
meeting the prefix cache it filled, and losing a pod moves only that pod's conversations. The bound on load is that
of consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2018), counted in tokens: a pod that has
more than `LOAD_FACTOR` times the mean of them, and one request beside, is passed over. So is one whose queue, by its
own word, is longer than the others': that is what other gateways ask of it. Ranking a hundred pods takes longer than
all else, so the first of each key is remembered until pods come or go.

Health is what calls found out: a pod that cannot be reached, or does not say that it is well after a call failed
there, is left out for a while. Then one request tries it, and the others follow once that got an answer. A request
that fails or is slow on a pod that is well says nothing of the pod: it must not be taken from everybody else.
"""

import hashlib
import random
import struct
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from cloister_common.flight import Flight

from cloister_gateway.models.adapters.records import Version
from cloister_gateway.models.served import Served

__all__ = ["LOAD_FACTOR", "Attempts", "Load", "Pod", "Pods"]

LOAD_FACTOR = 1.25
_MOST_LATE = 3
"""So many requests in a row without an answer in time, and no other one answered between them: that is the pod."""

_MOST_HOMES = 20_000
"""Keys whose first pod is remembered, with those asked for longest ago going first: about 2.5 MB."""

_NUMBER_BYTES = 4
_LEAST = -1
_tokens = attrgetter("tokens")


_NOBODY = Flight()


@dataclass(frozen=True, slots=True)
class Load:
    """What a pod says of itself.

    Attributes:
        waiting: Requests in its queue, of all gateways.
        ending: Whether it finishes what it has and takes nothing new.
        capacity: The tokens that its cache holds, and the requests that it computes at once; None where it says none.
        others: What other gateways have under way at pods of this model.
    """

    waiting: int = 0
    ending: bool = False
    capacity: tuple[int, int] | None = None
    others: Flight = _NOBODY


_UNKNOWN = Load()


@dataclass(eq=False, slots=True, weakref_slot=True)
class Pod:
    """One pod as this gateway sees it.

    Attributes:
        url: Its address.
        server_name: The name that its certificate must have, where the address is none.
        chooses: Whether it is no pod but who chooses among them, and tries again, for us.
        running: Requests that this gateway has open there.
        tokens: What these may come to: their prompts and the longest answers.
        out_until: Monotonic seconds until which it is left out; 0 if it answered since.
        late: Requests that it did not answer in time since it last answered one.
        load: What it said of itself a moment ago.
        adapters: What it is known to have loaded, as it calls them.
    """

    url: str
    server_name: str | None = None
    chooses: bool = False
    running: int = 0
    tokens: int = 0
    out_until: float = 0.0
    late: int = 0
    load: Load = _UNKNOWN
    adapters: frozenset[str] = frozenset()
    seed: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.seed = _number(self.url) | 1

    def is_out(self, now: float) -> bool:
        """Whether it gets nothing new."""
        return self.out_until > now or self.load.ending


@dataclass(eq=False, slots=True)
class Attempts:
    """What became of one request so far, over all calls made for it.

    Attributes:
        pods: Where it failed: a further call goes there last.
        faults: How often it failed in a way that may be its own doing, since it last got an answer.
        version: Of the adapter that it asks for, which is the same in each of them.
        over: Whether it failed where trying again is of no use: somebody else has, or it has waited long enough.
        wait_until: Monotonic seconds until which it may wait for its model to be ready; 0 if it never had to.
        served: Takes when a pod was asked.
        begun: Whether it had its turn at the pods: what goes on does not queue again.
        held_until: The same of a model that may rest, since it was held last.
        accepted: Whether it was promised to its caller: then there is room for it among those that are held.
    """

    pods: set[Pod] = field(default_factory=set)
    faults: int = 0
    version: Version | None = None
    over: bool = False
    wait_until: float = 0.0
    served: Served = field(default_factory=Served)
    begun: bool = False
    held_until: float = 0.0
    accepted: bool = False


class Pods:
    """The pods of one model.

    Args:
        urls: Their addresses.
        outage_seconds: How long one that failed is left out.

    Attributes:
        running: Requests that this gateway has open at any of them, also at those that are no longer there.
    """

    def __init__(self, urls: Sequence[str], *, outage_seconds: float) -> None:
        self.all: list[Pod] = []
        self.running = 0
        self._outage_seconds = outage_seconds
        self._left_out: set[Pod] = set()
        self._homes: dict[str, Pod] = {}
        self._tokens = 0
        self._waiting = 0
        self.replace(urls)

    def replace(self, urls: Sequence[str], *, server_name: str | None = None, chooses: bool = False) -> bool:
        """Makes these the pods; says whether any came or went. Those that stay keep their load and their health.

        One that is none of them any more gets nothing new, and ends what it has.
        """
        before = {(pod.url, pod.server_name, pod.chooses): pod for pod in self.all}
        keys = [(url.rstrip("/"), server_name, chooses) for url in urls]
        self.all = [before.get(key) or Pod(*key) for key in keys]
        self._left_out.intersection_update(self.all)
        self._count()
        changed = before.keys() != set(keys)
        if changed:
            self._homes.clear()
        return changed

    def choose(self, affinity: str | None, *, tokens: int = 1, tried: Collection[Pod] = ()) -> Pod | None:
        """The pod for the next request, which is begun there now, or None if all were tried.

        Pods that are left out come last, soonest back first: if every pod failed a moment ago, asking again is
        cheap and tells the truth.

        Args:
            affinity: Requests with the same key go to the same pod while its load allows it.
            tokens: The request's prompt and longest answer.
            tried: Pods that are out of the question.
        """
        now = time.monotonic()
        present = max(len(self.all) - sum(pod.is_out(now) for pod in self._left_out), 1)
        most = LOAD_FACTOR * self._tokens / present + tokens
        longest = LOAD_FACTOR * self._waiting / present + 1
        home = self._homes.pop(affinity, None) if affinity is not None else None
        if home is not None and affinity is not None:
            self._homes[affinity] = home
            if home.tokens <= most and home.load.waiting <= longest and home not in tried and not home.is_out(now):
                return self._tried(home, now)
        busy = None
        for pod in self._ranked(affinity):
            if pod in tried or pod.is_out(now):
                continue
            if pod.tokens <= most and pod.load.waiting <= longest:
                return self._tried(pod, now)
            busy = busy or pod
        if busy is not None:
            return self._tried(busy, now)
        untried = (pod for pod in self.all if pod not in tried)
        return min(untried, key=lambda pod: pod.out_until, default=None)

    def begin(self, pod: Pod, tokens: int) -> None:
        """Counts a request of ``tokens`` that ``pod`` gets."""
        self.running += 1
        pod.running += 1
        pod.tokens += tokens
        if pod in self._there:
            self._tokens += tokens

    def end(self, pod: Pod, tokens: int) -> None:
        """Counts it no longer."""
        self.running -= 1
        pod.running -= 1
        pod.tokens -= tokens
        if pod in self._there:
            self._tokens -= tokens

    def report(self, pod: Pod, load: Load | None) -> None:
        """Notes what ``pod`` says of itself, or that it says nothing."""
        pod.load = load or Load(capacity=pod.load.capacity)
        if pod.load.ending:
            self._left_out.add(pod)
        self._count()

    def failed(self, pod: Pod) -> None:
        """Leaves ``pod`` out for a while."""
        pod.out_until = time.monotonic() + self._outage_seconds
        self._left_out.add(pod)

    def late(self, pod: Pod) -> None:
        """Notes that ``pod``, which says that it is well, did not answer a request in time."""
        pod.late += 1
        if pod.late >= _MOST_LATE:
            self.failed(pod)

    def answered(self, pod: Pod) -> None:
        """Notes that ``pod`` is well."""
        pod.out_until = 0.0
        pod.late = 0
        if not pod.load.ending:
            self._left_out.discard(pod)

    def present(self) -> list[Pod]:
        """Those that are not left out; all, where all are."""
        now = time.monotonic()
        return [pod for pod in self.all if not pod.is_out(now)] or self.all

    def _count(self) -> None:
        self._there = set(self.all)
        self._seeds = _Seeds([pod.seed for pod in self.all])
        self._tokens = sum(pod.tokens for pod in self.all)
        self._waiting = sum(pod.load.waiting for pod in self.all)

    def _ranked(self, affinity: str | None) -> Iterator[Pod]:
        """The pods, best first, as far as they are asked for: sorting them all takes longer than choosing the first."""
        if affinity is None:
            start = random.randrange(len(self.all) or 1)  # noqa: S311 - no secret
            yield from sorted(self.all[start:] + self.all[:start], key=_tokens)
            return
        scores = self._seeds.scores(_number(affinity))
        for place in range(len(scores)):
            best = scores.index(max(scores))
            if place == 0:
                self._remember(affinity, self.all[best])
            scores[best] = _LEAST
            yield self.all[best]

    def _remember(self, affinity: str, home: Pod) -> None:
        self._homes[affinity] = home
        if len(self._homes) > _MOST_HOMES:
            del self._homes[next(iter(self._homes))]

    def _tried(self, pod: Pod, now: float) -> Pod:
        """``pod``; where it was left out, the others wait for what becomes of this request."""
        if pod.out_until:
            pod.out_until = now + self._outage_seconds
        return pod


class _Seeds:
    """The pods' numbers, which a key's number gives an order.

    The score of a pod is the lower half of the product of the two (multiplicative hashing), which is the same in every
    process. All of them come out of one multiplication: the seeds stand side by side in one number, each with as much
    room again above it, so that no product reaches into the next. One by one, a hundred take twice as long.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._bytes = 2 * _NUMBER_BYTES * len(seeds)
        self._all = int.from_bytes(b"".join(seed.to_bytes(2 * _NUMBER_BYTES, "little") for seed in seeds), "little")
        self._lower_halves = struct.Struct("<" + "I4x" * len(seeds))

    def scores(self, key: int) -> list[int]:
        """One for each seed, in their order."""
        return list(self._lower_halves.unpack((key * self._all).to_bytes(self._bytes, "little")))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_NUMBER_BYTES).digest())
