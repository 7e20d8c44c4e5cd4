"""Chat models and where their pods are: settings that are also the fields of a model which is entered by the API."""

from pathlib import Path
from typing import Annotated, Literal, Self

from cloister_common.settings import ClientTls, Settings
from pydantic import BaseModel, Field, StringConstraints, model_validator

__all__ = [
    "HttpUrl",
    "KubernetesSettings",
    "LlmSettings",
    "ModelFields",
    "ModelSettings",
    "PoolSettings",
    "SlicesSettings",
    "WakingSettings",
    "WorkloadSettings",
]

HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+$")]
"""Scheme, host and port without a path: the callers add the paths."""

KubernetesName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
LabelKey = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
_OBJECTIVE = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
"""The name of a Kubernetes object, which is also safe in a header."""


class SlicesSettings(Settings):
    """Pods that the Kubernetes API tells of: the ready endpoints of the EndpointSlices with certain labels."""

    namespace: KubernetesName = Field(description="Where the EndpointSlices are.")
    labels: dict[LabelKey, LabelValue] = Field(
        min_length=1,
        max_length=16,
        fail_fast=True,
        description="Labels that the EndpointSlices have, all of them. Kubernetes writes the Service's name there "
        "itself, under the key 'kubernetes.io/service-name'.",
    )
    port: str | None = Field(
        None, max_length=63, description="The port's name in the slices; where they have one port only, it needs none."
    )
    scheme: Literal["http", "https"] = Field("http", description="How the pods are spoken to.")
    server_name: str | None = Field(
        None,
        max_length=253,
        description="The name that the pods' certificate has, where that is not their address.",
    )


class PoolSettings(Settings):
    """A Gateway API InferencePool, or what else chooses a pod by itself, such as llm-d's endpoint picker."""

    url: HttpUrl = Field(
        description="Its address: that of the Gateway whose HTTPRoute leads to the pool. Which pod answers is chosen "
        "there: it is told the conversation, the tenant and the class of each request, the first two as keyed hashes, "
        "and a request that fails is not tried again by the gateway before its first token."
    )
    interactive: str = Field(
        "interactive",
        pattern=_OBJECTIVE,
        description="The objective (the name of an InferenceObjective) of requests for which somebody waits.",
    )
    background: str = Field(
        "background", pattern=_OBJECTIVE, description="The objective of background runs, `flex` requests and batches."
    )
    priorities: bool = Field(
        False,
        description="Whether the pods behind it schedule by priority, as our llm pods do: then the class goes to them "
        "as vLLM's `priority` too. Pods that do not refuse it.",
    )


class WorkloadSettings(Settings):
    """What Kubernetes starts and stops a model's pods by."""

    namespace: KubernetesName = Field(description="Where it is.")
    kind: Literal["statefulset", "deployment"] = Field("statefulset", description="What it is.")
    name: KubernetesName = Field(description="Its name.")


class WakingSettings(Settings):
    """When a model that nobody uses rests, and how long its next caller is held while it wakes."""

    idle_seconds: float = Field(
        900.0,
        gt=0,
        description="Seconds after its last use, over all gateways together, from which it rests; never while a "
        "request is under way or held.",
    )
    queue: int = Field(
        1_000,
        ge=1,
        le=10_000,
        description="How many requests may be held at once, over all gateways; those over it are refused with 429.",
    )
    deadline_seconds: float = Field(
        900.0,
        gt=0,
        description="The longest that a request is held, in seconds; then it fails with 503, which says how far the "
        "model had come.",
    )
    workload: WorkloadSettings | None = Field(
        None,
        description="With `mode: serverless`: what is scaled. The gateway's account must be allowed to get and patch "
        "its `scale`, and needs nothing else for it.",
    )
    replicas: int = Field(1, ge=1, le=1000, description="With `mode: serverless`: how many pods it has awake.")
    sleep_level: Literal[1, 2] = Field(
        1,
        description="With `mode: sleep`: vLLM's level. `1` keeps the weights in the pod's memory, `2` reads them from "
        "its disk again. The pods need `engine.sleep`.",
    )


class ModelFields(BaseModel):
    """What can be said of a chat model, in the settings file and by the administration."""

    urls: list[HttpUrl] = Field(
        [],
        max_length=256,
        fail_fast=True,
        description="One address for each pod; or give one of `service`, `kubernetes` and `pool`.",
    )
    service: HttpUrl | None = Field(
        None,
        description="Instead of `urls`: the address of a name that stands for all pods, as a headless Service's does. "
        "It is looked up again and again, so pods may come and go.",
    )
    kubernetes: SlicesSettings | None = Field(
        None,
        description="Instead of `urls`: EndpointSlices, which are watched, so pods that come, go or end are known "
        "within a second. The gateway's account must be allowed to get, list and watch them.",
    )
    pool: PoolSettings | None = Field(
        None, description="Instead of `urls`: an address behind which somebody else chooses among the pods."
    )
    mode: Literal["dedicated", "serverless", "sleep"] = Field(
        "dedicated",
        description="How its pods are kept: `dedicated` are there all the time; `serverless` are scaled to none while "
        "nobody uses the model; with `sleep` they stay, and give their GPUs' memory back.",
    )
    waking: WakingSettings | None = Field(
        None, description="With `serverless` and `sleep`: when the model rests, and how it is woken."
    )
    context_tokens: int = Field(ge=128, description="The longest prompt and answer together, in tokens.")
    default_output_tokens: int = Field(
        1024, ge=1, description="The longest answer, in tokens, where the caller sets no max_output_tokens."
    )
    tokens_in_flight: int | None = Field(
        None,
        ge=1,
        description="Tokens of prompts and answers that all its pods hold at once, of all gateways together: what is "
        "beyond that waits in the gateways, in fair shares. Left out, the pods say it themselves; those behind a "
        "`pool` say nothing, and without it all goes there at once.",
    )
    instructions: str | None = Field(None, description="A system turn before every conversation with this model.")
    temperature: float = Field(
        1.0,
        ge=0,
        le=2,
        description="The temperature where the caller sets none. The pods are always told, so that a response says "
        "what was in force: what the model's `generation_config.json` advises must stand here to count.",
    )
    top_p: float = Field(1.0, gt=0, le=1, description="The top_p where the caller sets none; see `temperature`.")
    reasoning: bool | None = Field(
        None,
        description="Whether this model thinks before it answers. `false`: an effort (`reasoning.effort`, "
        "`reasoning_effort`) is refused by name. Left out, as with `true`, it goes to the pod, whose chat template "
        "does with it what it can.",
    )
    tools: bool = Field(
        True, description="Whether this model calls functions. `false`: a request that brings some is refused by name."
    )
    images: int = Field(
        0,
        ge=0,
        le=64,
        description="Most images in one prompt, as the pods take them (their `model.images`); 0: images are refused by "
        "name.",
    )
    projects: list[str] = Field(
        [],
        max_length=1000,
        fail_fast=True,
        description="Ids of the projects that may use it; with none, all may. To others it does not exist.",
    )

    @model_validator(mode="after")
    def _pods_are_found_in_one_way(self) -> Self:
        given = [name for name in ("urls", "service", "kubernetes", "pool") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(
                "give either urls, one for each pod; or service, the name that stands for all of them; or kubernetes, "
                f"the labels of their EndpointSlices; or pool, where somebody else chooses. Given: {found}"
            )
        return self

    @model_validator(mode="after")
    def _rests_as_its_mode_says(self) -> Self:
        if self.mode == "dedicated":
            if self.waking is not None:
                raise ValueError("waking is for mode serverless and mode sleep; leave it out, or set one of these")
            return self
        if self.pool is not None:
            raise ValueError(f"mode {self.mode} needs to know the model's pods, which pool does not tell: give another")
        workload = None if self.waking is None else self.waking.workload
        if self.mode == "serverless" and workload is None:
            raise ValueError("mode serverless needs waking.workload: what is scaled to none and back")
        if self.mode == "sleep" and workload is not None:
            raise ValueError("waking.workload is for mode serverless: with mode sleep the pods stay")
        return self


class ModelSettings(ModelFields, Settings):
    """One chat model and the pods that serve it."""


class KubernetesSettings(Settings):
    """How the Kubernetes API is reached, for models whose pods it tells of, and for those it scales."""

    kubeconfig_file: Path | None = Field(
        None,
        description="A kubeconfig. Without one, the address and the account that a cluster gives to each pod are used.",
    )


class LlmSettings(Settings):
    """How the llm pods are called."""

    token_file: Path = Field(description="The pods' internal token; of several lines the first is sent.")
    tls: ClientTls = ClientTls()
    connect_seconds: float = Field(
        1.0, gt=0, description="A pod that does not accept a connection within so many seconds is passed over."
    )
    first_token_seconds: float = Field(
        300.0,
        gt=0,
        description="Longest wait for the first sign of life of a stream, in seconds: a pod gives one every few "
        "seconds while a request is queued or its prompt read, for up to 10 minutes.",
    )
    token_seconds: float = Field(
        60.0, gt=0, description="Longest silence within a stream, signs of life included, in seconds."
    )
    completion_seconds: float = Field(
        600.0, gt=0, description="Longest wait for a whole, unstreamed answer, in seconds."
    )
    outage_seconds: float = Field(
        5.0, gt=0, description="Seconds that a pod which failed is left out, before it is tried again."
    )
    loading_seconds: float = Field(
        120.0,
        ge=0,
        description="A request to a model of which no pod is ready waits so many seconds for one, from "
        "`response.queued` on, before it fails; with 0 it fails at once.",
    )
    loading_waits: int = Field(
        1_000, ge=1, description="How many requests may wait so at once; those over it fail at once."
    )
    look_up_seconds: float = Field(
        5.0, gt=0, description="How often, in seconds, the names of `models.<name>.service` are looked up."
    )
