"""The models that operators enter while gateways run: stored first, then told to every gateway.

Each gateway reads them at its start, at the word of a change, and every few seconds in case that the word was lost. A
model of the settings file is the file's: nobody changes it here, and one that was entered under its name comes into
force when the file lets go of it.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from cloister_common.errors import Conflict
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from cloister_common.vault import VaultError
from cloister_common.wire.models import model_not_found
from pydantic import ValidationError
from redis.exceptions import RedisError

from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.model_settings import ModelSettings
from cloister_gateway.models.catalog import Catalog, ChatModel, model_of
from cloister_gateway.models.store import CatalogStore, Entries, Entry
from cloister_gateway.storage.client import REDIS_AWAY

__all__ = ["Registry"]

log = get_logger(__name__)

_CHANGED = "models.changed"
_EVERY_SECONDS = 5.0


class Registry:
    """Enters models, and keeps the catalog's part of them current.

    Args:
        catalog: The gateway's.
        store: Where they are kept.
        announcements: Brings the word of changes.
    """

    def __init__(self, catalog: Catalog, store: CatalogStore, announcements: Announcements) -> None:
        self._catalog = catalog
        self._store = store
        self._announcements = announcements
        self._changed = asyncio.Event()
        self._unread: set[str] = set()

    async def start(self, supervisor: Supervisor) -> None:
        """Reads what has been entered, and follows it from now on; ends with the supervisor."""
        self._announcements.subscribe(_CHANGED, lambda _: self._changed.set(), self._changed.set)
        await self._load()
        supervisor.loop("model-registry", self._run)

    def models(self) -> list[ChatModel]:
        """Those of both origins; one that was entered under a name of the settings file comes after the file's."""
        return [*self._catalog.part("settings"), *self._catalog.part("administration")]

    async def enter(self, name: str, fields: Mapping[str, Any]) -> ChatModel:
        """Enters a model, or replaces the one that was entered under this name.

        Args:
            name: Its public name.
            fields: What is said of it, as `ModelSettings` takes it.

        Raises:
            Conflict: The settings file has a model of this name.
        """
        self._check_free(name)

        def entered(entries: Entries) -> Entries:
            before = entries.get(name)
            return {**entries, name: Entry(fields, before.created_at if before else int(time.time()))}

        await self._change(entered)
        log.warning("model_entered", model=name)
        return next(model for model in self._catalog.part("administration") if model.name == name)

    async def remove(self, name: str) -> None:
        """Takes a model out that was entered. What was asked of it before ends there.

        Raises:
            Conflict: It is the settings file's.
            NotFound: There is none.
        """

        def without(entries: Entries) -> Entries:
            if name not in entries:
                self._check_free(name)
                raise model_not_found(name)
            return {other: entry for other, entry in entries.items() if other != name}

        await self._change(without)
        log.warning("model_removed", model=name)

    def _check_free(self, name: str) -> None:
        if any(model.name == name for model in self._catalog.part("settings")):
            raise Conflict(
                f"The model '{name}' stands in the settings file (models.{name}), which is not changed from here. "
                "Change it there, or in the chart's values: gateways take it over while they run.",
                param="name",
                code="model_in_settings",
            )

    async def _change(self, change: Any) -> None:
        self._take(await self._store.change(change))
        await self._announcements.publish(_CHANGED, {})

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                pass  # Nobody called, and it is looked at all the same.
            self._changed.clear()
            await self._load()

    async def _load(self) -> None:
        """Takes over what is stored. Where that cannot be read, what was known last stays."""
        try:
            self._take(await self._store.read())
        except VaultError as error:
            log.error("stored_data_damaged", what="the models that the administration has entered", exc_info=error)
        except (RedisError, *REDIS_AWAY) as error:
            log.warning("entered_models_unknown", error=type(error).__name__)

    def _take(self, entries: Entries) -> None:
        models, unread = [], set()
        for name, entry in entries.items():
            try:
                fields = ModelSettings.model_validate(entry.fields)
            except ValidationError as error:
                # A gateway of another release entered it, with what this one does not know.
                unread.add(name)
                if name not in self._unread:
                    log.error("entered_model_unreadable", model=name, reason=str(error.errors(include_input=False)[0]))
                continue
            models.append(model_of(name, fields, origin="administration", created=entry.created_at))
        self._unread = unread
        if self._catalog.replace(models, origin="administration"):
            log.warning("models_changed", models=[model.name for model in self._catalog])
