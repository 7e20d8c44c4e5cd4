"""Settings of one llm pod, and the only place that reads the process environment.

vLLM's own process gets the path of the settings file through `SETTINGS_VARIABLE`, since the middleware it loads for us
takes no arguments.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal, Self

from cloister_common.buckets import BucketSettings
from cloister_common.settings import ServiceSettings, Settings, SettingsError, load_settings
from pydantic import Field, field_validator, model_validator

__all__ = [
    "HERALD_VARIABLE",
    "LISTENER_VARIABLE",
    "OWNED_ARGUMENTS",
    "PHASE_VARIABLE",
    "SETTINGS_VARIABLE",
    "AdapterRank",
    "EngineSettings",
    "LlmSettings",
    "LoraSettings",
    "ModelSettings",
    "inherited_environment",
    "inherited_listener",
    "pod_settings",
    "pod_settings_file",
    "started_herald",
    "started_phase_file",
]

SETTINGS_VARIABLE = "CLOISTER_LLM_SETTINGS"
LISTENER_VARIABLE, HERALD_VARIABLE = "CLOISTER_LLM_LISTENER", "CLOISTER_LLM_HERALD"
PHASE_VARIABLE = "CLOISTER_LLM_PHASE_FILE"
"""What the launcher leaves vLLM's process (`cloister_llm.starting`): the socket it listens on, who answers there
meanwhile, and the file in which vLLM says how far it is."""

_DROPPED = re.compile(r"^(VLLM_|HF_|HUGGING_FACE_|TRANSFORMERS_|PROMETHEUS_MULTIPROC_DIR$|.*_PROXY$|.*_proxy$)")

OWNED_ARGUMENTS = frozenset(
    {
        # Settings of their own
        *("model", "served-model-name", "host", "port", "max-model-len", "max-num-seqs", "dtype", "kv-cache-dtype"),
        *("gpu-memory-utilization", "tensor-parallel-size", "kv-cache-memory-bytes", "enforce-eager"),
        *("ssl-keyfile", "ssl-certfile", "ssl-ca-certs", "ssl-cert-reqs", "enable-ssl-refresh", "shutdown-timeout"),
        # What code is loaded, and from where
        *("trust-remote-code", "load-format", "download-dir", "tokenizer", "tokenizer-mode", "tokenizer-revision"),
        *("revision", "code-revision", "hf-token", "hf-config-path", "model-loader-extra-config", "config-format"),
        *("middleware", "tool-parser-plugin", "reasoning-parser-plugin", "io-processor-plugin", "logits-processors"),
        *("worker-cls", "worker-extension-cls", "config", "skip-tokenizer-init", "model-tag"),
        # Doors
        *("api-key", "uds", "grpc", "grpc-port", "headless", "api-server-count", "root-path", "tool-server"),
        *("enable-scale-out", "tokens-only", "enable-tokenizer-info-endpoint", "disable-fastapi-docs"),
        *("enable-offline-docs", "allowed-origins", "allowed-methods", "allowed-headers", "allow-credentials"),
        *("enable-sleep-mode", "profiler-config", "enable-lora", "lora-modules", "max-loras"),
        *("max-lora-rank", "default-mm-loras"),
        # Content: prompts, media, logs, traces, cached keys and values
        *("trust-request-chat-template", "trust-request-mm-kwargs", "enable-prompt-embeds", "enable-log-requests"),
        *("enable-log-outputs", "enable-log-deltas", "max-log-len", "log-error-stack", "log-config-file", "log-level"),
        *("uvicorn-log-level", "disable-uvicorn-access-log", "disable-access-log-for-endpoints", "logging-config"),
        *("allowed-media-domains", "allowed-local-media-path", "limit-mm-per-prompt", "language-model-only"),
        "mm-processor-cache-gb",
        *("otlp-traces-endpoint", "collect-detailed-traces", "kv-transfer-config", "ec-transfer-config"),
        *("kv-offloading-size", "kv-offloading-backend", "kv-events-config", "additional-config"),
        # What the gateway relies on
        *("enable-prefix-caching", "scheduling-policy", "prefix-caching-hash-algo", "enable-prompt-tokens-details"),
        # The compiler of schemas, which the guard tries them with
        "structured-outputs-config",
        # Calls and reasoning
        *("tool-call-parser", "enable-auto-tool-choice", "reasoning-parser", "tool-strict-level"),
    }
)
"""vLLM options that `EngineSettings.extra_arguments` may not name: the launcher sets them, or leaves them off."""

_MOVED = {
    "tool-call-parser": "model.tool_parser",
    "enable-auto-tool-choice": "model.tool_parser",
    "reasoning-parser": "model.reasoning_parser",
}
"""Options that were passed on once, and the settings that they are now."""

_OPTION = re.compile(r"[a-z][a-z0-9-]*(\.[A-Za-z0-9_.-]+)?")


class ModelSettings(Settings):
    """The model this pod serves."""

    name: str = Field(min_length=1, description="The name callers use; the same on every pod of the model.")
    path: Path = Field(
        description="Folder with `config.json`, `tokenizer.json` and safetensors weights. One with pickles is refused; "
        "code in it is never run."
    )
    tool_parser: str | None = Field(
        None,
        min_length=1,
        description="vLLM's parser of calls of tools (`hermes`, `llama3_json`, `mistral` …); left out, by the marks in "
        "the chat template; `none`: only calls that `tool_choice` forces are served, as where no mark is known.",
    )
    reasoning_parser: str | None = Field(
        None,
        min_length=1,
        description="vLLM's parser of reasoning (`qwen3`, `deepseek_r1` …); left out, by the model's type and template "
        "where that is certain; `none`: reasoning stays in the answer.",
    )
    images: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Most images in one prompt; left out, 8 for a model whose configuration and chat template have a "
        "place for them, else 0. The gateway is told by its `models.<name>.images`.",
    )


class EngineSettings(Settings):
    """How vLLM runs it. What is left out follows from the plan."""

    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="`auto` is a GPU where one is visible.")
    max_model_len: int | None = Field(
        None, ge=16, description="Longest conversation, prompt and answer, in tokens; left out, what fits."
    )
    max_num_seqs: int | None = Field(
        None, ge=1, le=4096, description="Most sequences computed in one step; left out, by plan."
    )
    kv_cache_gib: float | None = Field(None, gt=0, description="KV cache on a CPU, in GiB; left out, 4.")
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        "auto", description="What the KV cache is kept in: `fp8` halves it where the GPU has it."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="What the model is computed in; `auto`: as the weights are stored, or 16-bit for 32-bit ones; on a "
        "CPU `float32` where it was measured to be faster and there is room.",
    )
    eager: bool = Field(
        False,
        description="No compilation: starts in half a minute instead of a minute and a half, answers several times "
        "slower.",
    )
    gpu_memory_utilization: float = Field(0.9, gt=0, le=0.98, description="Share of each GPU's memory that is used.")
    tensor_parallel: int = Field(1, ge=1, description="GPUs that share the model.")
    nice: int | None = Field(
        None,
        ge=0,
        le=19,
        description="How far vLLM stands back where processors are short, as in nice(1), so that a model which "
        "computes on all of them does not starve what must answer at once; left out, 10 on a CPU, 0 with GPUs.",
    )
    sleep: bool = Field(
        False,
        description="Whether a gateway may have it give its GPUs' memory back while nobody uses the model (vLLM's "
        "sleep mode; the gateway's `models.<name>.mode: sleep`). At level 1 the pod needs as much memory as the "
        "weights have. On a CPU there is no such mode.",
    )
    cache_dir: Path = Field(
        description="A writable folder of this pod alone for compiled code, which vLLM executes when it finds it there "
        "again, and for what was measured. Keep it over restarts to skip both."
    )
    schema_seconds: float = Field(
        1.0, gt=0, le=60, description="Processor seconds that the JSON schemas of one request may take to compile."
    )
    compiler_seconds: float = Field(
        30.0,
        gt=0,
        description="A structured answer that has not begun after so many seconds has the compiler tested; one that "
        "takes as long for a trivial schema while plain answers begin has hung, and the pod ends, to be started anew.",
    )
    extra_arguments: dict[str, str | bool | int | float | dict[str, Any]] = Field(
        default_factory=dict,
        description="Further vLLM options, by name without the dashes before it (`max-num-batched-tokens: 8192`, "
        "`hf-overrides: {rope_theta: 500000}`). Those that the launcher sets, or leaves off on purpose, are refused.",
        json_schema_extra={"propertyNames": {"pattern": f"^{_OPTION.pattern}$"}},
    )

    @field_validator("extra_arguments")
    @classmethod
    def _not_owned(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for name in arguments:
            option = name.partition(".")[0]
            if not _OPTION.fullmatch(name):
                raise ValueError(f"'{name}' is no vLLM option; write it in lower case with dashes inside")
            bare = option.removeprefix("no-")
            if bare in _MOVED:
                raise ValueError(f"'{name}' is set by the launcher; say it with '{_MOVED[bare]}'")
            # argparse takes any unambiguous beginning of an option for the option.
            if any(owned.startswith((option, bare)) for owned in OWNED_ARGUMENTS):
                raise ValueError(f"'{name}' is set by the launcher and cannot be changed here")
        return arguments


AdapterRank = Literal[8, 16, 32, 64, 128, 256, 320, 512]
"""What vLLM's slots can be made for."""


class LoraSettings(Settings):
    """Fine-tuned models beside the model: LoRA adapters, loaded while the pod runs when a gateway asks for one."""

    folder: Path | None = Field(
        None,
        description="Folder with the adapters, each in a folder of its own below it; the same for every pod of the "
        "model. It is only read: an adapter is copied into `engine.cache_dir`, and its digest taken of the copy. Set "
        "this or `bucket`.",
    )
    bucket: BucketSettings | None = Field(
        None,
        description="Bucket of an object store with the adapters, each in a folder of its own below the prefix "
        "(`s3://bucket/prefix/FOLDER/adapter_config.json` …); read and copied in the same way. They lie there as "
        "they were put there, not sealed: give the pods a key that may read this prefix and nothing else.",
    )
    max_mib: int = Field(
        1024,
        ge=1,
        description="The largest adapter, in MiB. Copies of all that are loaded lie in `engine.cache_dir`.",
    )
    slots: int = Field(
        4,
        ge=1,
        le=64,
        description="Adapters that are computed at once; requests for more of them wait for a slot. Two versions of "
        "one take two. The plan counts their memory.",
    )
    rank: AdapterRank = Field(
        16, description="The largest rank of an adapter. Each slot takes the memory of this rank."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.folder is None) == (self.bucket is None):
            raise ValueError("set 'folder' or 'bucket', where the adapters lie, and not both")
        return self


class LlmSettings(ServiceSettings):
    """Everything one llm pod needs to know."""

    token_file: Path = Field(description="The internal tokens this pod accepts, one a line.")
    model: ModelSettings
    engine: EngineSettings
    lora: LoraSettings | None = Field(
        None,
        description="Where adapters may be loaded; left out, none are. On a CPU vLLM does not compile a model that "
        "takes adapters, so it answers as with `engine.eager`.",
    )
    max_body_bytes: int = Field(
        10 * 1024 * 1024,
        ge=1024,
        description="Larger request bodies are refused with 413. Room for a gateway's largest, and what it adds.",
    )
    max_json_values: int = Field(
        100_000,
        ge=1000,
        description="Bodies of more JSON values are refused with 413. A message has three or more, and four tokens or "
        "more.",
    )


def pod_settings_file() -> Path:
    """The settings file of the pod this vLLM process belongs to.

    Raises:
        SettingsError: vLLM was not started by our launcher.
    """
    return Path(_left_by_launcher(SETTINGS_VARIABLE))


def pod_settings() -> LlmSettings:
    """The settings of the pod this vLLM process belongs to.

    Raises:
        SettingsError: vLLM was not started by our launcher, or the file is wrong.
    """
    return load_settings(LlmSettings, pod_settings_file())


def inherited_listener() -> int:
    """The listening socket that the launcher has left this process, as a file descriptor.

    Raises:
        SettingsError: vLLM was not started by our launcher.
    """
    return int(_left_by_launcher(LISTENER_VARIABLE))


def started_herald() -> int | None:
    """The process that answers until vLLM does, if there is one."""
    herald = os.environ.get(HERALD_VARIABLE)
    return int(herald) if herald else None


def started_phase_file() -> Path | None:
    """Where the phase of a start is said, if anybody wants to know."""
    file = os.environ.get(PHASE_VARIABLE)
    return Path(file) if file else None


def _left_by_launcher(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise SettingsError("vLLM must be started with: python -m cloister_llm --config FILE")
    return value


def inherited_environment() -> dict[str, str]:
    """The environment without what could change vLLM behind the settings' back, or lead it to the network."""
    return {name: value for name, value in os.environ.items() if not _DROPPED.match(name)}
