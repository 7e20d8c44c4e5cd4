"""Takes another log level over while a service runs: who has to look closer should not end what they look at."""

import asyncio
from pathlib import Path

from cloister_common.logs import get_logger, set_level
from cloister_common.settings import SettingsError, load_log_settings

__all__ = ["watch_log_level"]

log = get_logger(__name__)

_CHECK_SECONDS = 5.0


async def watch_log_level(settings_file: Path, *, service: str, level: str, every: float = _CHECK_SECONDS) -> None:
    """Logs at the level that the settings file names, whenever it names another. Runs until it is cancelled.

    All else in the file waits for the next start. A file that cannot be read, or names no level there is, changes
    nothing: that start will say what is wrong with it. Like a certificate it is looked at, not listened to: a mounted
    ConfigMap is renewed by turning a link.

    Args:
        settings_file: The file that the service was started with.
        service: As in `set_level`.
        level: The level of the start.
        every: Seconds between two looks.
    """
    looked_at = None
    while True:
        await asyncio.sleep(every)
        try:
            facts = settings_file.stat()  # noqa: ASYNC240 - no disk: the kernel has it at hand
            version = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if version == looked_at:
                continue
            looked_at = version
            named = load_log_settings(settings_file).level
        except (OSError, SettingsError):
            continue
        if named == level:
            continue
        level = named
        set_level(service=service, level=level)
        log.warning("log_level_changed", to=level)
