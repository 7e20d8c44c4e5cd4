"""A log level that the mounted settings file names anew is taken over; nothing else in it is."""

import logging
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from cloister_common.log_level import watch_log_level
from cloister_common.settings import SettingsError, load_log_settings

from tests.support.waiting import until

OURS = logging.getLogger("cloister_common")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, OURS.level)
    yield
    root.handlers[:], root.level, OURS.level = before
    logging.Logger.manager._clear_cache()  # type: ignore[attr-defined]  # what a level decided is remembered


def write(folder: Path, text: str, *, turn: int) -> None:
    """As Kubernetes renews a mounted ConfigMap: a new directory, then the link turned to it."""
    new = folder / f"..{turn}"
    new.mkdir()
    (new / "service.yaml").write_text(text)
    (folder / "turning").symlink_to(new.name)
    (folder / "turning").rename(folder / "..data")


async def test_every_new_level_is_taken_over_and_a_wrong_one_does_not_end_the_watch(tmp_path: Path) -> None:
    write(tmp_path, "log: {level: info}", turn=0)
    file = tmp_path / "..data" / "service.yaml"
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: watch_log_level(file, service="tiny", level="info", every=0.01))
        write(tmp_path, "log: {level: debug}\nserver: {port: 1}", turn=1)
        await until(lambda: OURS.getEffectiveLevel() == logging.DEBUG)
        file.write_text("log: {level: loud}")
        await anyio.lowlevel.checkpoint()
        write(tmp_path, "log: {level: error}", turn=2)
        await until(lambda: OURS.getEffectiveLevel() == logging.ERROR)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("text", ["log: {level: loud}", "log: {levels: info}", "log: [", "log: []", "just words"])
def test_a_file_that_names_no_level_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "service.yaml"
    with pytest.raises(SettingsError, match="Cannot read"):
        load_log_settings(file)
    file.write_text(text)
    with pytest.raises(SettingsError, match="settings file"):
        load_log_settings(file)
