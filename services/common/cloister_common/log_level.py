"""Takes another log level over while a service runs: who has to look closer should not end what they look at."""

from pathlib import Path

from cloister_common.logs import get_logger, set_level
from cloister_common.settings import SettingsError, load_log_settings
from cloister_common.watching import changes_of

__all__ = ["watch_log_level"]

log = get_logger(__name__)


async def watch_log_level(settings_file: Path, *, service: str, level: str, every: float = 5.0) -> None:
    """Logs at the level that the settings file names, whenever it names another. Runs until it is cancelled.

    A file that cannot be read, or names no level there is, changes nothing: the next start will say what is wrong with
    it.

    Args:
        settings_file: The file that the service was started with.
        service: As in `set_level`.
        level: The level of the start.
        every: Seconds between two looks.
    """
    async for _ in changes_of(settings_file, every=every):
        try:
            named = load_log_settings(settings_file).level
        except SettingsError:
            continue
        if named == level:
            continue
        level = named
        set_level(service=service, level=level)
        log.warning("log_level_changed", to=level)
