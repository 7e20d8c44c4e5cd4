"""``make run``: check, unpack, make secrets, render settings, start, keep running, stop."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cloister_common.disk import DiskFloor

from deploy.local import client, models
from deploy.local.config import Layout, render
from deploy.local.disk import RedisGuard
from deploy.local.faults import LocalFault, NotReadyToStart
from deploy.local.keys import ensure_secrets
from deploy.local.parts import parts
from deploy.local.preflight import check_machine, lock
from deploy.local.process import Watchdog, end_with_parent
from deploy.local.runner import Runner
from deploy.local.scale import ScaleApi
from deploy.local.settings import REPOSITORY, LocalSettings, load_local_settings

OPEN_TO_OTHERS = (
    "without a credential other users of this machine reach the metrics (counts, no content) and idle ports of vLLM's "
    "engine on loopback (SECURITY.md)"
)


def main() -> int:
    """Runs the stack; the exit code is 0 when it was stopped, 1 when a part failed, 2 when nothing was started."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="Runs all of Cloister on this machine.")
    parser.add_argument("--var", type=Path, default=REPOSITORY / "var", help="the folder for all data (var)")
    parser.add_argument("--config", type=Path, help="settings laid over deploy/local/local.yaml (VAR/local.yaml)")
    parser.add_argument("--only-models", action="store_true", help="unpack and check the models, start nothing")
    parser.add_argument("--end-with-parent", action="store_true", help="stop when the process that started this ends")
    arguments = parser.parse_args()
    if arguments.end_with_parent:
        end_with_parent()
    # Until the runner has handlers of its own, a signal ends what is under way: at most the unpacking of a model.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        layout = Layout(arguments.var.resolve())
        settings = _settings(layout, arguments.config)
        if arguments.only_models:
            _ensure_models(settings)
        else:
            _run(settings, layout)
    except LocalFault as fault:
        print(fault, file=sys.stderr)
        return type(fault).exit_code
    except OSError as error:
        if error.filename is None:
            raise
        mend = "Make it usable for this user, or choose another folder: make run VAR=DIR."
        print(f"Cannot use {error.filename}: {error.strerror}. {mend}", file=sys.stderr)
        return NotReadyToStart.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _settings(layout: Layout, config: Path | None) -> LocalSettings:
    default = layout.var / "local.yaml"
    return load_local_settings(config or (default if default.exists() else None))


def _run(settings: LocalSettings, layout: Layout) -> None:
    # What is stored is sealed; still, no other user of the machine has business with it, whatever the umask says.
    layout.var.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock(layout.var) as held:
        say("checking programs, memory, disk and ports")
        check_machine(settings, layout.var)
        _ensure_models(settings)
        ensure_secrets(layout.secrets)
        render(settings, layout)
        for part in ("redis", "milvus", "blobs"):
            layout.data(part).mkdir(exist_ok=True)
        fresh_store = not any(layout.data("redis").iterdir())
        watchdog = Watchdog(held)
        try:
            asyncio.run(_serve(settings, layout, watchdog, fresh_store=fresh_store))
        finally:
            watchdog.close()


async def _serve(settings: LocalSettings, layout: Layout, watchdog: Watchdog, *, fresh_store: bool) -> None:
    async def ready() -> None:
        new_key = await client.ensure_client_file(settings, layout, fresh_store=fresh_store)
        print(client.paste_lines(settings, layout, new_key), flush=True)

    password = (layout.secrets / "redis-password").read_text().strip()
    floor = DiskFloor(layout.data("redis"), settings.disk.min_free_mib)
    guard = RedisGuard(floor, settings.ports.redis, password, say)
    say(f"starting all parts; their logs are in {layout.logs}")
    say(OPEN_TO_OTHERS)
    stack = parts(settings, layout, guard)
    beside: list[Callable[[], Coroutine[Any, Any, None]]] = [guard.watch]
    if resting := {part.name for part in stack if part.rests}:
        token = (layout.secrets / "scale-token").read_text().strip()
        beside.append(ScaleApi(resting, lambda: runner, settings.ports.scale, token).serve)
    runner = Runner(
        settings,
        stack,
        beside=beside,
        record=layout.var / "run.json",
        watchdog=watchdog,
        when_ready=ready,
        say=say,
    )
    await runner.run()


def _ensure_models(settings: LocalSettings) -> None:
    say("checking the models")
    folder = REPOSITORY / settings.paths.models
    chosen = ((settings.chat_model.path, models.CHAT_MODEL), (settings.embedding_model.path, models.EMBEDDING_MODEL))
    for path, bundled in chosen:
        if path is None:
            models.ensure(bundled, folder, say)
        elif not (REPOSITORY / path / "config.json").is_file():
            raise NotReadyToStart(f"The model folder {path} has no config.json. Name the folder of a whole model.")


def say(line: str) -> None:
    """Prints a line of progress at once."""
    # The stack goes on when nobody takes its words: they may go to a file on a full disk.
    with contextlib.suppress(OSError):
        print(f"cloister: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
