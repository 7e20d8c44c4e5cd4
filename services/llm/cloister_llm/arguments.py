"""What vLLM is started with: its command line, its environment, its logging configuration. Pure functions."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister_common.logs import levels

from cloister_llm.families import Parsers
from cloister_llm.plan.capacity import Capacity
from cloister_llm.plugin import NAME
from cloister_llm.processes import ENVIRONMENT, OPTIONS, can_share
from cloister_llm.rendering.tools import PARSER
from cloister_llm.settings import SETTINGS_VARIABLE, LlmSettings
from cloister_llm.starting.server import MODULE

__all__ = ["Processors", "command_line", "environment", "logging_config"]

_MIDDLEWARE = "cloister_llm.guard.middleware.Guard"
_LIBRARIES = "warning"  # the level of everything but our own loggers, whatever ours is
_NOWHERE = "media.invalid"  # a name that never resolves (RFC 2606): no media is fetched from anywhere
_HEADROOM = 0.1
"""Of the cache, that stays free for answers to grow into when a new prompt is let in: without it a burst of long
conversations fills the cache to the last block, and each of their next tokens takes another's place."""
_NO_MEDIA = {"video": 0, "audio": 0}
_GRAMMARS = {"backend": "guidance", "disable_any_whitespace": True}
"""One compiler for all: left to choose, vLLM keeps the one that the first schema after the start happened to need. This
one is lazy, so that compiling is bounded, and refuses by name what it does not know of JSON Schema. Without whitespace
between fields, of which small models write lines and lines where nothing else is allowed but the end."""


def command_line(
    settings: LlmSettings,
    capacity: Capacity,
    parsers: Parsers,
    *,
    device: str,
    dtype: str,
    images: int = 0,
    shared: bool = False,
) -> list[str]:
    """The whole command, interpreter first.

    Args:
        settings: Of the pod.
        capacity: The plan.
        parsers: Of calls and reasoning.
        device: ``cpu`` or ``gpu``.
        dtype: What the model computes in.
        images: How many a prompt may have.
        shared: Whether its processes are copies (`processes`).
    """
    engine, server = settings.engine, settings.server
    options: dict[str, Any] = {
        "model": str(settings.model.path),
        "served-model-name": settings.model.name,
        "host": server.host,
        "port": server.port,
        "max-model-len": capacity.context,
        "max-num-seqs": engine.max_num_seqs or capacity.max_num_seqs,
        "dtype": dtype,
        "kv-cache-dtype": engine.kv_cache_dtype,
        "tensor-parallel-size": engine.tensor_parallel,
        "load-format": "safetensors",
        "tokenizer-mode": "hf",
        "middleware": _MIDDLEWARE,
        "scheduling-policy": "priority",
        "watermark": _HEADROOM,
        "enable-prefix-caching": True,
        "prefix-caching-hash-algo": "sha256",
        "enable-prompt-tokens-details": True,
        "shutdown-timeout": int(server.shutdown_seconds),
        "allowed-media-domains": _NOWHERE,
        "limit-mm-per-prompt": {"image": images, **_NO_MEDIA},
        "structured-outputs-config": _GRAMMARS,
        # vLLM does without calls of any kind where it has no parser; those that are forced need none of them.
        "enable-auto-tool-choice": True,
        "tool-call-parser": parsers.calls or PARSER,
        "disable-fastapi-docs": True,
        "disable-uvicorn-access-log": True,
        "uvicorn-log-level": _LIBRARIES,
        "enforce-eager": engine.eager,
        "enable-sleep-mode": engine.sleep,
        **(OPTIONS if shared else {}),
        **engine.extra_arguments,
    }
    if device == "gpu":
        options["gpu-memory-utilization"] = engine.gpu_memory_utilization
    else:
        options["kv-cache-memory-bytes"] = capacity.kv_cache
    if images:
        # It would be of all tenants in common, and tell one by its time what another has shown the model.
        options["mm-processor-cache-gb"] = 0
    if parsers.reasoning is not None:
        options["reasoning-parser"] = parsers.reasoning
    if settings.lora is not None:
        options |= {"enable-lora": True, "max-loras": settings.lora.slots, "max-lora-rank": settings.lora.rank}
    if server.tls is not None:
        options["ssl-certfile"] = str(server.tls.certificate_file)
        options["ssl-keyfile"] = str(server.tls.key_file)
    return [sys.executable, "-m", MODULE, *(part for name, value in options.items() for part in _option(name, value))]


def _option(name: str, value: Any) -> list[str]:
    """One option as words; ``name=value`` in one word, so that a value can begin with a dash."""
    if value is False:
        return []
    if value is True:
        return [f"--{name}"]
    return [f"--{name}={json.dumps(value) if isinstance(value, dict) else value}"]


@dataclass(frozen=True, slots=True)
class Processors:
    """What a model on a CPU computes with."""

    threads: int
    own: tuple[int, ...] = ()
    """Cores to bind a thread to each; none: they go where the scheduler puts them."""
    libraries: Sequence[Path] = ()
    """Loaded before all others."""


def environment(
    settings: LlmSettings, settings_file: Path, inherited: dict[str, str], processors: Processors | None
) -> dict[str, str]:
    """vLLM's environment: what was inherited, less what it must not see, plus what closes it.

    On a CPU (``processors``) it has as many threads as it says, unless ``OMP_NUM_THREADS`` was inherited.
    """
    cache = settings.engine.cache_dir
    values = {
        **inherited,
        SETTINGS_VARIABLE: str(settings_file),
        "VLLM_PLUGINS": NAME,
        # Nothing leaves: no downloads, no usage statistics.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        # Forced calls are JSON by schema (`cloister_llm.calls`); vLLM's structural tags are another compiler's.
        "VLLM_ENFORCE_STRICT_TOOL_CALLING": "0",
        # The compiler would write about schemas to stderr.
        "LLGUIDANCE_LOG_LEVEL": "0",
        # Caches may hold code that is executed: they belong to this pod alone.
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "VLLM_CONFIG_ROOT": str(cache / "config"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "HF_HOME": str(cache / "huggingface"),
        "XDG_CACHE_HOME": str(cache),
        "VLLM_LOGGING_CONFIG_PATH": str(cache / "logging.json"),
        "VLLM_LOGGING_LEVEL": _LIBRARIES.upper(),
    }
    if processors is not None:
        # There are no more threads than cores: of a quota, each would wait for the others' turns. Bound ones neither
        # meet on a core nor leave their caches; whoever wishes another number of them has them unbound.
        bound = processors.own if "OMP_NUM_THREADS" not in inherited else ()
        values["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, bound)) or "nobind"
        values.setdefault("OMP_NUM_THREADS", str(processors.threads))
        preloaded = [*map(str, processors.libraries), *filter(None, [inherited.get("LD_PRELOAD")])]
        if preloaded:
            values["LD_PRELOAD"] = ":".join(preloaded)
        if can_share(values):
            values |= ENVIRONMENT
    return values


def logging_config(level: str, mark: str) -> dict[str, Any]:
    """How each of vLLM's processes logs: in our format, its own loggers and uvicorn's without content.

    `cloister_common.logs` says what is left of them: from ``warning`` on, by name, place and class of exception.

    Args:
        level: The level of our own loggers.
        mark: What each line begins with, for `cloister_llm.relay`.
    """
    ours = {name: {"level": own} for name, own in levels("llm", level).items()}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"json": {"()": "cloister_llm.plugin.log_handler", "mark": mark}},
        "root": {"handlers": ["json"], "level": "WARNING"},
        # vLLM and uvicorn give these levels of their own unless they are told one.
        "loggers": {**ours, "vllm": {"level": "WARNING"}, "uvicorn": {"level": "WARNING"}},
    }
