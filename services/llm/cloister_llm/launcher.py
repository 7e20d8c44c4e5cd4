"""Checks, plans, has somebody answer meanwhile, and becomes vLLM.

The process is replaced by vLLM's own server (``execve``), so that signals, exit codes and the supervisor's view are
vLLM's. Whatever can be known to be wrong is said before, in one sentence; vLLM would say it after minutes, in a page.
"""

import contextlib
import json
import os
import secrets
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cloister_common.buckets import open_bucket
from cloister_common.certificates import server_context
from cloister_common.logs import get_logger
from cloister_common.settings import ServerSettings, SettingsError, read_secret_lines

from cloister_llm.arguments import Processors, command_line, environment, logging_config
from cloister_llm.families import pod_images, pod_parsers
from cloister_llm.hardware import cpu_cores, cpu_memory_bytes, fast_libraries, gpu_memory_bytes, own_cores
from cloister_llm.model_folder import check_model_folder
from cloister_llm.plan import Capacity, DoesNotFit, Load, ModelShape, PlanError, plan_capacity, read_shape, weight_bytes
from cloister_llm.plan.capacity import GIB
from cloister_llm.precision import faster_in_float32
from cloister_llm.processes import can_share
from cloister_llm.relay import divert_output
from cloister_llm.settings import EngineSettings, LlmSettings, LoraSettings, inherited_environment
from cloister_llm.starting.herald import phase_file, start_herald
from cloister_llm.starting.phases import note

__all__ = ["Launch", "launch", "prepare"]

log = get_logger(__name__)

_DEFAULT_CPU_CACHE = 4 * GIB  # vLLM's own default on a CPU

_CPU_NICE = 10
"""A model that computes on processors takes all of them for seconds. What must answer within milliseconds beside it
(Redis, the gateway) then comes first, and what nobody else wants it still has in full."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What will be executed."""

    command: list[str]
    environment: dict[str, str]
    capacity: Capacity
    device: Literal["cpu", "gpu"]
    log_mark: str
    """What tells lines of our log from anything else that vLLM's processes write."""
    nice: int


def prepare(settings: LlmSettings, settings_file: Path) -> Launch:
    """Checks everything that can be checked, makes the cache folder, and puts the command together.

    Raises:
        SettingsError: With the mend.
    """
    read_secret_lines(settings.token_file, what="The llm pod's internal token")
    try:
        config = check_model_folder(settings.model.path)
        shape = read_shape(config)
        load = _load(settings)
        capacity = _capacity(settings, shape, load)
        wide = _in_float32(settings, shape, load, capacity)
    except (PlanError, DoesNotFit) as error:
        raise SettingsError(str(error)) from error
    if settings.lora is not None:
        _check_adapters(settings.lora)
    _check_ports(settings.server)
    if settings.server.tls is not None:
        server_context(settings.server.tls)
    mark = f"{secrets.token_hex(16)} "
    _make_cache(settings, mark)
    run_with = environment(
        settings,
        settings_file.absolute(),
        inherited_environment(),
        Processors(cpu_cores(), own_cores(), fast_libraries()) if load.device == "cpu" else None,
    )
    dtype = settings.engine.dtype
    if wide is not None and faster_in_float32(settings.model.path, _narrow(shape), run_with, settings.engine.cache_dir):
        dtype, capacity = "float32", wide
    return Launch(
        command_line(
            settings,
            capacity,
            pod_parsers(settings),
            device=load.device,
            dtype=dtype,
            images=pod_images(settings),
            shared=load.device == "cpu" and can_share(run_with),
        ),
        run_with,
        capacity,
        load.device,
        mark,
        _nice(settings.engine, load.device),
    )


def launch(settings: LlmSettings, settings_file: Path) -> None:
    """`prepare`, then become vLLM. Does not return."""
    ready = prepare(settings, settings_file)
    log.info(
        "starting_vllm",
        model=settings.model.name,
        device=ready.device,
        context_tokens=ready.capacity.context,
        kv_cache_gib=round(ready.capacity.kv_cache / GIB, 2),
        full_conversations=ready.capacity.conversations,
    )
    note(phase_file(settings), "loading")
    divert_output(ready.log_mark)
    # (It answers at once, and so does not stand back.)
    left = start_herald(settings, settings_file)
    _stand_back(ready.nice)
    os.execve(ready.command[0], ready.command, {**ready.environment, **left})  # noqa: S606 - no shell, an argument list of ours


def _capacity(settings: LlmSettings, shape: ModelShape, load: Load) -> Capacity:
    return plan_capacity(shape, weight_bytes(settings.model.path, shape, load.dtype), load)


def _in_float32(settings: LlmSettings, shape: ModelShape, load: Load, capacity: Capacity) -> Capacity | None:
    """The plan in float32, where that is a choice: on a CPU, not quantised, and with room for the same context."""
    quantised = shape.configuration.quantisation or "quantization" in settings.engine.extra_arguments
    if load.device != "cpu" or load.dtype != "auto" or quantised:
        return None
    try:
        return _capacity(settings, shape, replace(load, dtype="float32", context=capacity.context))
    except DoesNotFit:
        return None


def _narrow(shape: ModelShape) -> str:
    """What vLLM computes in where nothing is said: as stored, or bfloat16 for 32 bits."""
    return "float16" if shape.dtype == "float16" else "bfloat16"


def _nice(engine: EngineSettings, device: str) -> int:
    if engine.nice is not None:
        return engine.nice
    return _CPU_NICE if device == "cpu" else 0


def _stand_back(nice: int) -> None:
    """Lowers this process, and so all of vLLM, to ``nice``; never raises what its starter lowered further."""
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    # Where the kernel weighs sessions against each other (sched(7), autogroup), the session has to stand back too.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))


def _load(settings: LlmSettings) -> Load:
    engine, lora = settings.engine, settings.lora
    adapters = {} if lora is None else {"adapter_slots": lora.slots, "adapter_rank": lora.rank}
    gpus = [] if engine.device == "cpu" else gpu_memory_bytes()
    if engine.device == "gpu" and not gpus:
        raise SettingsError("engine.device is gpu, but no GPU is visible. Give the pod one, or set engine.device: cpu.")
    fixed = int(engine.kv_cache_gib * GIB) if engine.kv_cache_gib is not None else None
    if gpus:
        if fixed is not None:
            raise SettingsError("engine.kv_cache_gib is for CPUs. On a GPU set engine.gpu_memory_utilization.")
        if len(gpus) < engine.tensor_parallel:
            raise SettingsError(
                f"engine.tensor_parallel is {engine.tensor_parallel}, but {len(gpus)} GPU(s) are visible."
            )
        return Load(
            "gpu",
            min(gpus),
            devices=engine.tensor_parallel,
            share=engine.gpu_memory_utilization,
            context=engine.max_model_len,
            kv_dtype=engine.kv_cache_dtype,
            dtype=engine.dtype,
            **adapters,
        )
    if engine.tensor_parallel > 1:
        raise SettingsError("engine.tensor_parallel needs GPUs. Set it to 1.")
    if engine.sleep:
        raise SettingsError(
            "engine.sleep needs a GPU, whose memory it gives back. Set it to false; a model on a CPU rests with the "
            "gateway's mode serverless."
        )
    return Load(
        "cpu",
        cpu_memory_bytes(),
        context=engine.max_model_len,
        kv_cache_bytes=fixed or _DEFAULT_CPU_CACHE,
        kv_dtype=engine.kv_cache_dtype,
        dtype=engine.dtype,
        **adapters,
    )


def _check_adapters(lora: LoraSettings) -> None:
    if lora.folder is not None and not lora.folder.is_dir():
        raise SettingsError(f"There is no folder {lora.folder} for adapters. Mount it, or leave 'lora' out.")
    if lora.bucket is not None:
        open_bucket(lora.bucket)


def _check_ports(server: ServerSettings) -> None:
    for port, key in ((server.port, "server.port"), (server.metrics_port, "server.metrics_port")):
        with socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((server.host, port))
            except OSError as error:
                raise SettingsError(
                    f"Cannot listen on {server.host}:{port}: {error.strerror}. Stop what uses the port, or set {key}."
                ) from error


def _make_cache(settings: LlmSettings, mark: str) -> None:
    folder = settings.engine.cache_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o002:
            raise SettingsError(
                f"Anyone may write to {folder}, and what lies there is executed. "
                "Set engine.cache_dir to a private folder."
            )
        (folder / "logging.json").write_text(json.dumps(logging_config(settings.log.level, mark)))
    except OSError as error:
        raise SettingsError(
            f"Cannot write to {folder}: {error.strerror}. Set engine.cache_dir to a writable folder of this pod."
        ) from error
