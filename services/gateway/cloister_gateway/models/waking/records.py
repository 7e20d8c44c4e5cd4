"""When a model rests, how it is woken, and where a request stands that is held until it is."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cloister_gateway.model_settings import WakingSettings

__all__ = ["PHASES", "Phase", "Standing", "Told", "Waking", "Workload", "waking_of"]

Phase = Literal["scheduling", "pulling", "loading", "compiling", "ready"]
"""How far a model is: no pod of it has a place yet; one has, and its image or weights are fetched; it loads; it
compiles and warms up; it answers."""

PHASES: tuple[Phase, ...] = ("scheduling", "pulling", "loading", "compiling", "ready")


@dataclass(frozen=True, slots=True)
class Workload:
    """What Kubernetes starts and stops a model's pods by.

    Attributes:
        namespace, name: Where it is, and what it is called.
        plural: Its kind as paths of the API have it.
    """

    namespace: str
    plural: str
    name: str


@dataclass(frozen=True, slots=True)
class Waking:
    """When a model rests, and how it is woken.

    Attributes:
        idle_seconds: After its last use, over all gateways.
        queue: Requests that may be held at once, over all gateways.
        deadline_seconds: How long one is held at most.
        workload: What is scaled to none; with None its pods sleep.
        replicas: How many pods it is scaled to.
        sleep_level: vLLM's.
    """

    idle_seconds: float
    queue: int
    deadline_seconds: float
    workload: Workload | None = None
    replicas: int = 1
    sleep_level: int = 1

    def body(self) -> dict[str, Any]:
        """As the administration is shown it, and enters it."""
        shown = asdict(self)
        if self.workload is None:
            return {name: value for name, value in shown.items() if name not in {"workload", "replicas"}}
        del shown["sleep_level"]
        kind = self.workload.plural.removesuffix("s")
        return {
            **shown,
            "workload": {"namespace": self.workload.namespace, "kind": kind, "name": self.workload.name},
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a request stands that waits for its model.

    Attributes:
        position: Its place among those that wait, from 1 on.
        phase: How far the model is; None where nobody can tell.
    """

    position: int
    phase: Phase | None = None

    def body(self) -> dict[str, Any]:
        """``queue`` of ``response.queued``."""
        return asdict(self)


Told = Callable[[Standing | None], None]
"""Told where a request stands that waits for its model, whenever that is another; and None when it goes on."""


def waking_of(settings: WakingSettings | None, *, sleeps: bool) -> Waking:
    """What the settings of a model that may rest say."""
    told = settings or WakingSettings()
    workload = told.workload
    return Waking(
        told.idle_seconds,
        told.queue,
        told.deadline_seconds,
        None if sleeps or workload is None else Workload(workload.namespace, f"{workload.kind}s", workload.name),
        told.replicas,
        told.sleep_level,
    )
