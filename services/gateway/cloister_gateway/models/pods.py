"""Which pod of a model gets the next request: the one that knows the conversation, unless it is busier than its share.

Rendezvous hashing (Thaler and Ravishankar, 1998) ranks the pods for an affinity key, so that a conversation keeps
meeting the prefix cache it filled, and losing a pod moves only that pod's conversations. The bound on load is that
of consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2018): no pod gets more than
`LOAD_FACTOR` times the mean. Health is what calls found out: a pod that cannot be reached, or does not say that it is
well after a call failed there, is left out for a while, then tried. A request that fails or is slow on a pod that is
well says nothing of the pod: it must not be taken from everybody else.
"""

import hashlib
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

__all__ = ["LOAD_FACTOR", "Attempts", "Pod", "Pods"]

LOAD_FACTOR = 1.25
_MOST_LATE = 3
"""So many requests in a row without an answer in time, and no other one answered between them: that is the pod."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Pod:
    """One pod as this gateway sees it.

    Attributes:
        url: Its address.
        server_name: The name that its certificate must have, where the address is none.
        running: Requests that this gateway has open there.
        out_until: Monotonic seconds until which it is left out.
        late: Requests that it did not answer in time since it last answered one.
    """

    url: str
    server_name: str | None = None
    running: int = 0
    out_until: float = 0.0
    late: int = 0


@dataclass(eq=False, slots=True)
class Attempts:
    """What became of one request so far, over all calls made for it.

    Attributes:
        pods: Where it failed: a further call goes there last.
        faults: How often it failed in a way that may be its own doing, since it last got an answer.
    """

    pods: set[Pod] = field(default_factory=set)
    faults: int = 0


class Pods:
    """The pods of one model.

    Args:
        urls: Their addresses.
        outage_seconds: How long one that failed is left out.
    """

    def __init__(self, urls: Sequence[str], *, outage_seconds: float) -> None:
        self.all: list[Pod] = []
        self._outage_seconds = outage_seconds
        self.replace(urls)

    def replace(self, urls: Sequence[str], *, server_name: str | None = None) -> bool:
        """Makes these the pods; says whether any came or went. Those that stay keep their load and their health."""
        before = {(pod.url, pod.server_name): pod for pod in self.all}
        keys = [(url.rstrip("/"), server_name) for url in urls]
        self.all = [before.get(key) or Pod(*key) for key in keys]
        return before.keys() != set(keys)

    def choose(self, affinity: str | None, *, tried: Collection[Pod] = ()) -> Pod | None:
        """The pod for the next request, or None if all were tried.

        Pods that are left out come last, soonest back first: if every pod failed a moment ago, asking again is
        cheap and tells the truth.
        """
        now = time.monotonic()
        untried = [pod for pod in self.all if pod not in tried]
        present = [pod for pod in untried if pod.out_until <= now]
        if not present:
            return min(untried, key=lambda pod: pod.out_until, default=None)
        if len(present) == 1:
            return present[0]
        if affinity is None:
            return min(present, key=lambda pod: (pod.running, _score(pod.url, str(now))))
        share = math.ceil(LOAD_FACTOR * (sum(pod.running for pod in present) + 1) / len(present))
        ranked = sorted(present, key=lambda pod: _score(pod.url, affinity), reverse=True)
        return next((pod for pod in ranked if pod.running < share), ranked[0])

    def failed(self, pod: Pod) -> None:
        """Leaves ``pod`` out for a while."""
        pod.out_until = time.monotonic() + self._outage_seconds

    def late(self, pod: Pod) -> None:
        """Notes that ``pod``, which says that it is well, did not answer a request in time."""
        pod.late += 1
        if pod.late >= _MOST_LATE:
            self.failed(pod)

    def answered(self, pod: Pod) -> None:
        """Notes that ``pod`` is well."""
        pod.out_until = 0.0
        pod.late = 0


def _score(url: str, affinity: str) -> bytes:
    return hashlib.blake2b(affinity.encode(), digest_size=8, key=url.encode()[:64]).digest()
