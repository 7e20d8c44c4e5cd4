"""Which chat models there are, and what each can: read by everything that names a model, changed in one place.

It can change while the gateway runs (`Catalog.replace`, `Catalog.adapt`): who keeps something for each model listens.
What was asked of a model before it was taken out goes on there. It has two parts, of two origins: what the settings
name, and what the administration has entered (`cloister_gateway.models.registry`). A name that both have is the
settings' model. Adapters are models too: of their base, under another name, for projects of their own.
"""

import functools
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Literal, Self

from cloister_common.wire.models import model_not_found

from cloister_gateway.model_settings import ModelFields
from cloister_gateway.models.adapters.records import AdapterRecord, Version
from cloister_gateway.models.waking.records import Waking, waking_of

__all__ = ["Capability", "Catalog", "ChatModel", "Mode", "Origin", "Pool", "Slices", "model_of", "models_of"]

Capability = Literal["chat", "images", "reasoning", "tools"]
"""What a model can be asked for. All that are served answer chats."""

Mode = Literal["dedicated", "serverless", "sleep"]
"""How a model's pods are kept: all the time; scaled to none while nobody uses it; or asleep meanwhile."""

Origin = Literal["settings", "administration"]
"""Who named a model: the settings file, or an operator by the API."""


@dataclass(frozen=True, slots=True)
class Slices:
    """The EndpointSlices that tell of a model's pods.

    Attributes:
        namespace: Where they are.
        selector: The labels they have, as the Kubernetes API takes them: ``key=value,key=value``.
        port: Its name in them; None where they have one only.
        scheme: How the pods are spoken to.
        server_name: The name that their certificate has, where that is not their address.
    """

    namespace: str
    selector: str
    port: str | None = None
    scheme: str = "http"
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """An address behind which somebody else chooses among the pods, and the objectives that it knows.

    Attributes:
        url: The address.
        interactive: The objective of requests for which somebody waits.
        background: That of background runs and batches.
        priorities: Whether the pods behind it schedule by vLLM's priority.
    """

    url: str
    interactive: str = "interactive"
    background: str = "background"
    priorities: bool = False


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
        kubernetes: Else what the Kubernetes API has of them.
        pool: Else who chooses among them.
        reasoning: Whether it thinks before it answers; None is not known.
        images: Most images in one prompt.
        tools: Whether it calls functions.
        mode: How its pods are kept.
        waking: When it rests and how it is woken, where its mode lets it rest.
        origin: Who named it.
        temperature, top_p: How it samples where the caller does not say.
        projects: Who may use it; nobody named means all.
        base: The model whose pods serve it, where it is an adapter.
        versions: Those of the adapter that answer.
        tokens_in_flight: Tokens that all its pods hold; None is what they say.
        created: When this gateway began to serve it (Unix seconds).
    """

    name: str
    context_tokens: int
    default_output_tokens: int
    instructions: str | None = None
    urls: tuple[str, ...] = ()
    service: str | None = None
    reasoning: bool | None = None
    images: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    projects: frozenset[str] = frozenset()
    tools: bool = True
    kubernetes: Slices | None = None
    pool: Pool | None = None
    mode: Mode = "dedicated"
    waking: Waking | None = None
    origin: Origin = "settings"
    base: str | None = None
    versions: tuple[Version, ...] = ()
    tokens_in_flight: int | None = None
    created: int = field(default_factory=lambda: int(time.time()), compare=False)

    @property
    def fingerprint(self) -> str:
        """OpenAI's ``system_fingerprint``: another one where answers may differ for the same seed.

        Of what the gateway knows of the model, and of the release: not of the weights that its pods have loaded, but
        for an adapter's versions.
        """
        digests = (version.digest for version in self.versions)
        return _fingerprint(self.name, self.context_tokens, *digests)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can."""
        can: dict[Capability, bool] = {
            "chat": True,
            "images": self.images > 0,
            "reasoning": self.reasoning is not False,
            "tools": self.tools,
        }
        return frozenset(capability for capability, given in can.items() if given)

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
        self._parts: dict[Origin, dict[str, ChatModel]] = {"settings": _by_name(models), "administration": {}}
        self._bases = self._parts["settings"]
        self._adapters: tuple[AdapterRecord, ...] = ()
        self._models = self._bases
        self._departed: dict[str, ChatModel] = {}
        self._listeners: list[Callable[[], None]] = []

    @classmethod
    def of(cls, settings: Mapping[str, ModelFields]) -> Self:
        """What the settings say."""
        return cls(models_of(settings))

    def get(self, name: str) -> ChatModel:
        """The model called ``name``; also an adapter that was removed, for what was asked of it before.

        Raises:
            NotFound: There is none (``model_not_found``).
        """
        found = self._models.get(name) or self._departed.get(name)
        if found is None:
            raise model_not_found(name)
        return found

    def served(self, name: str, project: str) -> ChatModel:
        """The model called ``name``, for a caller of ``project``.

        Raises:
            NotFound: There is none for that project (``model_not_found``).
        """
        found = self._models.get(name)
        if found is None or not found.is_for(project):
            raise model_not_found(name)
        return found

    def find(self, name: str) -> ChatModel | None:
        """The model called ``name``, or None."""
        return self._models.get(name)

    def __iter__(self) -> Iterator[ChatModel]:
        return iter(tuple(self._models.values()))

    def bases(self) -> list[ChatModel]:
        """The models that have pods of their own."""
        return list(self._bases.values())

    def part(self, origin: Origin) -> list[ChatModel]:
        """What ``origin`` has named, whether or not the other part has a model of the same name."""
        return list(self._parts[origin].values())

    def replace(self, models: Iterable[ChatModel], *, origin: Origin = "settings") -> bool:
        """Puts ``models`` in the place of all that ``origin`` had named; says whether anything is another now.

        The listeners are told then. Who is the same is left there.
        """
        before = self._bases
        self._parts[origin] = _by_name(models)
        settings = self._parts["settings"]
        named = settings | {
            name: model for name, model in self._parts["administration"].items() if name not in settings
        }
        self._bases = {name: model if before.get(name) != model else before[name] for name, model in named.items()}
        if list(self._bases.items()) == list(before.items()):
            return False
        self._take_over()
        return True

    def adapt(self, adapters: Iterable[AdapterRecord]) -> None:
        """Puts ``adapters`` in the place of those there were, and tells the listeners."""
        before, self._adapters = self._adapters, tuple(adapters)
        if self._adapters != before:
            self._take_over()

    def _take_over(self) -> None:
        before = self._models
        self._models = {**self._bases, **self._tuned()}
        gone = {name: model for name, model in before.items() if model.base is not None and name not in self._models}
        self._departed = {name: model for name, model in (self._departed | gone).items() if name not in self._models}
        for listener in self._listeners:
            listener()

    def _tuned(self) -> dict[str, ChatModel]:
        """The adapters whose base is there. A model of the same name comes first."""
        return {
            adapter.name: replace(
                self._bases[adapter.base_model],
                name=adapter.name,
                base=adapter.base_model,
                versions=adapter.live,
                projects=frozenset(adapter.projects),
                created=adapter.created_at,
            )
            for adapter in self._adapters
            if adapter.live and adapter.base_model in self._bases and adapter.name not in self._bases
        }

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Calls ``listener`` after every change. It must be quick and must not wait."""
        self._listeners.append(listener)


def models_of(settings: Mapping[str, ModelFields]) -> list[ChatModel]:
    """The models that the settings name."""
    return [model_of(name, model) for name, model in settings.items()]


def model_of(name: str, fields: ModelFields, *, origin: Origin = "settings", created: int | None = None) -> ChatModel:
    """The model called ``name`` with what ``origin`` says of it; made now, if nobody knows when."""
    slices, pool = fields.kubernetes, fields.pool
    return ChatModel(
        name,
        fields.context_tokens,
        fields.default_output_tokens,
        fields.instructions,
        tuple(fields.urls),
        fields.service,
        fields.reasoning,
        fields.images,
        temperature=fields.temperature,
        top_p=fields.top_p,
        projects=frozenset(fields.projects),
        tools=fields.tools,
        kubernetes=None
        if slices is None
        else Slices(
            slices.namespace,
            ",".join(f"{key}={value}" for key, value in sorted(slices.labels.items())),
            slices.port,
            slices.scheme,
            slices.server_name,
        ),
        pool=None if pool is None else Pool(**pool.model_dump()),
        mode=fields.mode,
        tokens_in_flight=fields.tokens_in_flight,
        waking=None if fields.mode == "dedicated" else waking_of(fields.waking, sleeps=fields.mode == "sleep"),
        origin=origin,
        created=int(time.time()) if created is None else created,
    )


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
