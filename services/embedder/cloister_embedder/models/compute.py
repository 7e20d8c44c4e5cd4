"""Where and in which precision models run: decided once, from the settings and what the machine has."""

import math
import os
from pathlib import Path
from typing import Literal

from cloister_common.settings import SettingsError

from cloister_embedder.settings import ComputeSettings

__all__ = ["available_cores", "choose_device", "choose_dtype", "default_batch_tokens"]

Dtype = Literal["float32", "bfloat16"]
Device = Literal["cpu", "cuda"]

_CPU_BATCH_TOKENS = 4096
"""About 0.15 s of MiniLM on two cores: the longest a query waits behind a bulk batch."""
_GPU_BATCH_TOKENS = 65_536


def choose_device(setting: Literal["auto", "cpu", "cuda"]) -> Device:
    """The device of the settings; ``auto`` takes a GPU where there is one.

    Raises:
        SettingsError: ``cuda`` was asked for and is not there.
    """
    import torch  # takes seconds, and only loading needs it

    if setting == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if setting == "cuda":
        raise SettingsError("compute.device is cuda, but torch finds no GPU. Give the pod one, or set it to auto.")
    return "cpu"


def choose_dtype(setting: Literal["auto", "float32", "bfloat16"], device: Device) -> Dtype:
    """``auto`` means bfloat16 where matrix products in it run natively: AVX512-BF16, AMX, Arm's BF16, or the GPU.

    Elsewhere bfloat16 is emulated and slower than float32. Measured on AVX512-BF16: 3.4 times faster than float32,
    cosine to float32 above 0.999.
    """
    import torch

    if setting != "auto":
        return setting
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = torch.cpu.get_capabilities()
    native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bfloat16" if native else "float32"


def default_batch_tokens(device: Device) -> int:
    """Padded tokens of one forward pass where the settings name none."""
    return _CPU_BATCH_TOKENS if device == "cpu" else _GPU_BATCH_TOKENS


def available_cores(settings: ComputeSettings, cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Threads for one forward pass: the setting, else the cores the container may use, rounded up.

    torch counts the cores of the node. In a pod limited to two of 64 cores it would start 64 threads that wait for
    each other. ``cpu_max`` is cgroup v2's ``quota period`` in microseconds, or ``max`` without a limit.
    """
    if settings.threads is not None:
        return settings.threads
    cores = len(os.sched_getaffinity(0))
    if cpu_max.exists():
        quota, _, period = cpu_max.read_text().strip().partition(" ")
        if quota.isdigit() and period.isdigit():
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores
