"""A StatefulSet of one pod for tests: what its controller, its kubelet and its endpoints do, step by step.

It follows the scale that `tests.support.kubernetes_api` was told: the pod gets a place, an address, listens, loads and
is ready; scaled away it ends what it has and is gone. Each step may be held back.
"""

import contextlib
import threading
from collections.abc import Iterator

from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import free_port, served

from tests.support.kubernetes_api import KubernetesApi, slice_of

__all__ = ["FakeWorkload"]

_LOOK_SECONDS = 0.01


class FakeWorkload:
    """One workload and its pod.

    Args:
        api: Where it is scaled, and its pod is told of.
        llm: The pod.

    Attributes:
        path: Where the workload is.
        reach: The last phase that the pod comes to by itself.
        starts: How often the pod began.
    """

    def __init__(self, api: KubernetesApi, llm: FakeLlm) -> None:
        self.api = api
        self.llm = llm
        self.path = "namespaces/chat/statefulsets/llm-fake"
        self.reach = "ready"
        self.starts = 0
        self.port = free_port()
        self._kill = threading.Event()
        self._gone = threading.Event()
        self._pod: contextlib.ExitStack | None = None
        api.put_workload(self.path)

    @property
    def is_there(self) -> bool:
        """Whether the pod listens."""
        return self._pod is not None

    def kill(self) -> None:
        """Kills the pod; another one begins."""
        self._kill.set()

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Follows the scale while the block runs."""
        thread = threading.Thread(target=self._follow, name="workload")
        thread.start()
        try:
            yield
        finally:
            self._gone.set()
            thread.join()

    def _follow(self) -> None:
        while not self._gone.wait(_LOOK_SECONDS):
            wanted = self.api.wanted(self.path)
            if self._kill.is_set():
                self._end()
                self._kill.clear()
            elif wanted and self._pod is None:
                self._begin()
            elif wanted and self._pod is not None:
                self._go_on()
            elif self._pod is not None and self.llm.running == 0:
                self._end()
        self._end()

    def _begin(self) -> None:
        if self.reach == "scheduling":
            return
        self.api.put_pods(self.path, 1)
        self._tell(ready=False)
        if self.reach == "pulling":
            return
        self.starts += 1
        self.llm.phase = "loading"
        self._pod = contextlib.ExitStack()
        self._pod.enter_context(served(self.llm, self.port))

    def _go_on(self) -> None:
        if self.reach == "ready":
            if self.llm.phase is not None:
                self.llm.phase = None
                self._tell(ready=True)
        else:
            self.llm.phase = self.reach

    def _end(self) -> None:
        if self._pod is not None:
            with contextlib.suppress(KeyError):
                self.api.delete("llm-fake-1")
            self._pod.close()
            self._pod = None
            self.api.put_pods(self.path, 0)

    def _tell(self, *, ready: bool) -> None:
        endpoint = {"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}
        labels = {"kubernetes.io/service-name": "llm-fake"}
        self.api.put(slice_of("llm-fake-1", port=self.port, labels=labels, endpoints=[endpoint]))
