"""Where models run, and in how many threads: decided once, from the settings and what the machine has."""

import math
import os
from pathlib import Path
from typing import Literal

from cloister_common.settings import SettingsError

from cloister_embedder.settings import ComputeSettings

__all__ = ["Device", "available_cores", "choose_device"]

Device = Literal["cpu", "cuda"]


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
