"""How soon a generation is wanted: by whoever waits for it, before long, or when there is nothing else to do.

The class of a request decides three things: who goes first where the model's tokens are all taken
(`cloister_gateway.admission`), vLLM's ``priority``, by which a pod chooses among those in its queue and whom it stops
first where its cache is full, and the objective that a pool's picker is told. Callers say it in OpenAI's words alone:
``background``, and ``service_tier: "flex"``; nobody can name a priority.
"""

from enum import StrEnum

__all__ = ["RANKS", "WorkClass", "class_of"]


class WorkClass(StrEnum):
    """The classes, most urgent first."""

    INTERACTIVE = "interactive"
    """Somebody waits for it."""
    BACKGROUND = "background"
    """Somebody will come for it: ``background`` runs, and what is asked for with ``service_tier: "flex"``."""
    BATCH = "batch"
    """A line of a batch, of which only the last one is waited for."""

    @property
    def level(self) -> int:
        """Its place among them: 0 is the most urgent."""
        return _LEVELS[self]

    @property
    def priority(self) -> int:
        """The first of its values for vLLM's ``priority``, of which it has `RANKS`: lower is sooner, and 0 is what a
        request has that names none."""
        return _LEVELS[self] * RANKS


RANKS = 1000
"""Values of a class, one behind the other: for those who have more under way already."""

_LEVELS = {work: place for place, work in enumerate(WorkClass)}


def class_of(*, background: bool = False, service_tier: str | None = None) -> WorkClass:
    """The class of what a caller asks for, who knows of no batch."""
    return WorkClass.BACKGROUND if background or service_tier == "flex" else WorkClass.INTERACTIVE
