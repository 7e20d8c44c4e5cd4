"""The catalog as the settings file has it now: models come, go and change while the gateway runs."""

from pathlib import Path

from cloister_common.logs import get_logger
from cloister_common.settings import SettingsError, load_settings
from cloister_common.watching import changes_of

from cloister_gateway.models.catalog import Catalog, models_of
from cloister_gateway.settings import GatewaySettings

__all__ = ["follow_models"]

log = get_logger(__name__)


async def follow_models(settings_file: Path, catalog: Catalog, *, every: float = 5.0) -> None:
    """Puts the models that the file names in the catalog, whenever it names others. Runs until it is cancelled.

    A file with any mistake in it changes nothing.

    Args:
        settings_file: The file that the gateway was started with.
        catalog: What follows it.
        every: Seconds between two looks.
    """
    async for _ in changes_of(settings_file, every=every):
        try:
            named = models_of(load_settings(GatewaySettings, settings_file).models)
        except SettingsError as error:
            log.error("models_unchanged", reason=str(error))
            continue
        if named != catalog.part("settings") and catalog.replace(named):
            log.warning("models_changed", models=[model.name for model in named])
