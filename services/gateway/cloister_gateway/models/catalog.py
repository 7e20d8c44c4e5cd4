"""Which chat models there are, and what each can: read by everything that names a model, changed in one place.

It can change while the gateway runs (`Catalog.replace`): who keeps something for each model listens. What was asked of
a model before it was taken out goes on there.
"""

import functools
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal, Self

from cloister_common.wire.models import model_not_found

from cloister_gateway.settings import ModelSettings

__all__ = ["Capability", "Catalog", "ChatModel", "models_of"]

Capability = Literal["chat"]
"""What a model can be asked for. All that are served answer chats; what only some can will stand here."""


@dataclass(frozen=True, slots=True)
class ChatModel:
    """One entry.

    Attributes:
        name: As callers know it.
        context_tokens: The longest prompt and answer together.
        default_output_tokens: The longest answer where the caller does not say.
        instructions: A system turn before every conversation.
        urls: Its pods' addresses, where they are known beforehand.
        service: Else the address of the name that stands for all of them.
        reasoning: Whether it thinks before it answers; None is not known.
        capabilities: What it can.
        temperature, top_p: How it samples where the caller does not say.
        projects: Who may use it; nobody named means all.
        created: When this gateway began to serve it (Unix seconds).
    """

    name: str
    context_tokens: int
    default_output_tokens: int
    instructions: str | None = None
    urls: tuple[str, ...] = ()
    service: str | None = None
    reasoning: bool | None = None
    capabilities: frozenset[Capability] = frozenset({"chat"})
    temperature: float = 1.0
    top_p: float = 1.0
    projects: frozenset[str] = frozenset()
    created: int = field(default_factory=lambda: int(time.time()), compare=False)

    @property
    def fingerprint(self) -> str:
        """OpenAI's ``system_fingerprint``: another one where answers may differ for the same seed.

        Of what the gateway knows of the model, and of the release: not of the weights that its pods have loaded.
        """
        return _fingerprint(self.name, self.context_tokens)

    def is_for(self, project: str) -> bool:
        """Whether ``project`` may use it, and know of it."""
        return not self.projects or project in self.projects

    def answer_tokens(self, asked: int | None) -> int:
        """The longest answer, in tokens, to a caller who asked for at most ``asked``.

        vLLM lets an answer end where the context does, but refuses a request for more than all of it.
        """
        return min(asked or self.default_output_tokens, self.context_tokens)


class Catalog:
    """The chat models by name."""

    def __init__(self, models: Iterable[ChatModel]) -> None:
        self._models = _by_name(models)
        self._listeners: list[Callable[[], None]] = []

    @classmethod
    def of(cls, settings: Mapping[str, ModelSettings]) -> Self:
        """What the settings say."""
        return cls(models_of(settings))

    def get(self, name: str) -> ChatModel:
        """The model called ``name``.

        Raises:
            NotFound: There is none (``model_not_found``).
        """
        found = self._models.get(name)
        if found is None:
            raise model_not_found(name)
        return found

    def served(self, name: str, project: str) -> ChatModel:
        """The model called ``name``, for a caller of ``project``.

        Raises:
            NotFound: There is none for that project (``model_not_found``).
        """
        found = self.get(name)
        if not found.is_for(project):
            raise model_not_found(name)
        return found

    def find(self, name: str) -> ChatModel | None:
        """The model called ``name``, or None."""
        return self._models.get(name)

    def __iter__(self) -> Iterator[ChatModel]:
        return iter(tuple(self._models.values()))

    def replace(self, models: Iterable[ChatModel]) -> None:
        """Puts ``models`` in the place of all there were, and tells the listeners. Who is the same is left there."""
        before = self._models
        self._models = {
            name: model if before.get(name) != model else before[name] for name, model in _by_name(models).items()
        }
        for listener in self._listeners:
            listener()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Calls ``listener`` after every change. It must be quick and must not wait."""
        self._listeners.append(listener)


def models_of(settings: Mapping[str, ModelSettings]) -> list[ChatModel]:
    """The models that the settings name."""
    return [
        ChatModel(
            name,
            model.context_tokens,
            model.default_output_tokens,
            model.instructions,
            tuple(model.urls),
            model.service,
            model.reasoning,
            temperature=model.temperature,
            top_p=model.top_p,
            projects=frozenset(model.projects),
        )
        for name, model in settings.items()
    ]


@functools.cache
def _fingerprint(*known: object) -> str:
    release = version("cloister-gateway")
    return f"fp_{hashlib.sha256(repr((release, *known)).encode()).hexdigest()[:10]}"


def _by_name(models: Iterable[ChatModel]) -> dict[str, ChatModel]:
    found: dict[str, ChatModel] = {}
    for model in models:
        if found.setdefault(model.name, model) is not model:
            raise ValueError(f"the model '{model.name}' is there twice")
    return found
