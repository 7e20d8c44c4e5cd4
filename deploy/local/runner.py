"""Starts the parts side by side, keeps them running, and ends them all: nothing is left behind, whatever happens.

A part that ends while the stack starts ends the run, with a sentence that names its log. A part that dies later is
started again after a pause that grows with each death, for as long as it takes: the others run on meanwhile. A part
that rests is started and stopped at the word of who uses it (`deploy.local.scale`).
"""

import asyncio
import json
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from deploy.local.faults import LocalFault
from deploy.local.parts import Part
from deploy.local.process import Process, Watchdog, trim_log
from deploy.local.settings import LocalSettings

__all__ = ["Runner"]

_PROBE_SECONDS = 0.5
_TRIM_SECONDS = 5.0
_ONE_SIGNAL_SECONDS = (
    1.0  # `make` passes on a signal that the terminal or `timeout` has sent to the whole group already
)
_PROGRESS_SECONDS = 10.0
_DEATHS_WINDOW_SECONDS = 600.0
_MOST_DOUBLINGS = 20
_LAST_WORDS_BYTES = 4000


class _Stopped(Exception):
    """A signal asked the run to end."""


class _Demand:
    """Whether a part shall run."""

    def __init__(self, *, wanted: bool) -> None:
        self._yes, self._no = asyncio.Event(), asyncio.Event()
        self.set(wanted)

    @property
    def wanted(self) -> bool:
        return self._yes.is_set()

    def set(self, wanted: bool) -> None:
        yes, no = (self._yes, self._no) if wanted else (self._no, self._yes)
        yes.set()
        no.clear()

    async def until(self, wanted: bool) -> None:
        await (self._yes if wanted else self._no).wait()


class Runner:
    """One run of the stack.

    Args:
        settings: The local settings.
        parts: What to run, stores first and the door last: they are ended in the reverse order.
        record: The file that says what runs (``run.json``): there while the stack runs, and says ``ready`` when all
            parts are.
        watchdog: Ends the parts if this process is killed.
        when_ready: Called once, when every part is ready for the first time.
        say: Prints a line.
        beside: What else runs for as long as the stack does.
    """

    def __init__(
        self,
        settings: LocalSettings,
        parts: Sequence[Part],
        *,
        record: Path,
        watchdog: Watchdog,
        when_ready: Callable[[], Awaitable[None]],
        say: Callable[[str], None],
        beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._record_path = record
        self._watchdog = watchdog
        self._when_ready = when_ready
        self._say = say
        self._beside = beside
        self._unrecorded = False
        self._processes: dict[str, Process] = {}
        self._ready = {part.name: asyncio.Event() for part in parts}
        self._demand = {part.name: _Demand(wanted=not part.rests) for part in parts}
        self._waiting_for: dict[str, str] = {}
        self._announced = False
        self._stop = asyncio.Event()
        self._stop_asked = 0.0
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Runs until a signal asks for the end.

        Raises:
            LocalFault: A part could not start, or died more often than ``restart.limit``.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup make run` means to go on when the terminal is closed.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal)
        self._record()
        fault: LocalFault | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._parts:
                    group.create_task(self._keep(part), name=part.name)
                group.create_task(self._announce(), name="announce")
                group.create_task(self._progress(), name="progress")
                group.create_task(self._trim_logs(), name="logs")
                for work in self._beside:
                    group.create_task(work())
                group.create_task(self._until_stopped(), name="stop")
        except* _Stopped:
            pass
        except* LocalFault as faults:
            fault = _first(faults)
            self._say("stopping, because a part failed")
        finally:
            await self._stop_all()
        if fault is not None:
            raise fault

    def is_wanted(self, part: str) -> bool:
        """Whether it shall run."""
        return self._demand[part].wanted

    def is_there(self, part: str) -> bool:
        """Whether it has a process."""
        return part in self._processes

    def want(self, part: str, *, wanted: bool) -> None:
        """Has it run, or rest."""
        self._demand[part].set(wanted)

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._stop_asked = time.monotonic()
            self._stop.set()
        elif time.monotonic() - self._stop_asked >= _ONE_SIGNAL_SECONDS:
            self._hurry.set()

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        self._say("stopping (Ctrl-C again: at once)")
        raise _Stopped

    async def _keep(self, part: Part) -> None:
        """Starts a part when what it needs is ready, and again whenever it dies."""
        for name in part.needs:
            await self._ready[name].wait()
        deaths: deque[float] = deque()
        while True:
            await self._demand[part.name].until(True)
            fault = await self._run_once(part)
            self._ready[part.name].clear()
            if fault is None:
                del self._processes[part.name]
                self._say(f"{part.name} rests")
                self._record()
                continue
            deaths.append(time.monotonic())
            while deaths[0] < time.monotonic() - _DEATHS_WINDOW_SECONDS:
                deaths.popleft()
            limit = self._settings.restart.limit
            if limit is not None and len(deaths) > limit:
                raise LocalFault(f"{fault}, more often than restart.limit ({limit}) allows. Its log: {part.log}")
            pause = self._pause(len(deaths))
            when = f" in {pause:g} s, after {len(deaths)} deaths in ten minutes" if len(deaths) > 1 else ""
            self._say(f"{fault}; starting it again{when}. Its log: {part.log}")
            self._record()
            await asyncio.sleep(pause)

    def _pause(self, deaths: int) -> float:
        """Seconds before the next start of a part that has died ``deaths`` times lately."""
        restart = self._settings.restart
        return min(restart.longest_pause_seconds, restart.pause_seconds * 2.0 ** min(deaths - 1, _MOST_DOUBLINGS))

    async def _run_once(self, part: Part) -> str | None:
        """One life of a part; how it ended, or None where it was to rest.

        Raises:
            LocalFault: It ended before the stack was ready for the first time.
        """
        try:
            process = await Process.start(
                part.command, environment=part.environment, log=part.log, watchdog=self._watchdog, nice=part.nice
            )
        except OSError as error:
            not_started = f"{part.name} could not be started ({error.strerror})"
            if not self._announced and not part.rests:
                raise LocalFault(f"{not_started}. Its log: {part.log}") from error
            return not_started
        self._processes[part.name] = process
        self._record()
        ended = asyncio.create_task(process.wait())
        life = asyncio.create_task(self._live(part, ended, process.log_start))
        unwanted = asyncio.create_task(self._demand[part.name].until(False))
        try:
            await asyncio.wait([life, unwanted], return_when=asyncio.FIRST_COMPLETED)
            fault = life.result() if life.done() else None
        finally:
            for task in (life, unwanted, ended):
                task.cancel()
        await process.stop(0 if fault is not None else self._settings.stop_seconds)
        return fault

    async def _live(self, part: Part, ended: asyncio.Task[int], log_start: int) -> str:
        """Tells when a process is ready, and gives how it ended. Raises as `_run_once`."""
        started = time.monotonic()
        fault = await self._until_ready(part, ended, log_start)
        if fault is not None:
            if not self._announced and not part.rests:
                raise LocalFault(f"{fault}. Its log: {part.log}")
            return fault
        self._say(f"{part.name} is ready ({time.monotonic() - started:.1f} s): {part.what}")
        self._ready[part.name].set()
        self._record()
        return f"{part.name} {_how_it_ended(await ended)}"

    async def _until_ready(self, part: Part, ended: asyncio.Task[int], log_start: int) -> str | None:
        """None once the part is ready; what is wrong with it when it ends or takes too long."""
        deadline = time.monotonic() + self._settings.start_seconds
        reason: str | None = "not started"
        try:
            while time.monotonic() < deadline:
                reason = await part.probe()
                if ended.done():
                    return (
                        f"{part.name} {_how_it_ended(ended.result())} while starting{_last_words(part.log, log_start)}"
                    )
                if reason is None:
                    return None
                self._waiting_for[part.name] = reason
                await asyncio.wait([ended], timeout=_PROBE_SECONDS)
        finally:
            self._waiting_for.pop(part.name, None)
        return f"{part.name} was not ready after {self._settings.start_seconds:g} s ({reason})"

    async def _announce(self) -> None:
        for part in self._parts:
            if not part.rests:
                await self._ready[part.name].wait()
        await self._when_ready()
        self._announced = True
        self._record()

    async def _progress(self) -> None:
        started = time.monotonic()
        while not self._announced:
            await asyncio.sleep(_PROGRESS_SECONDS)
            waiting = ", ".join(self._waiting_for)
            if waiting:
                self._say(f"still starting after {time.monotonic() - started:.0f} s: {waiting}")

    async def _trim_logs(self) -> None:
        while True:
            for part in self._parts:
                trim_log(part.log)
            if self._unrecorded:
                self._record()
            await asyncio.sleep(_TRIM_SECONDS)

    async def _stop_all(self) -> None:
        """Ends the door first and the stores last, so that what is under way can still be stored."""
        for part in reversed(self._parts):
            process = self._processes.get(part.name)
            if process is not None:
                stopping = asyncio.create_task(process.stop(self._settings.stop_seconds))
                hurry = asyncio.create_task(self._hurry.wait())
                await asyncio.wait([stopping, hurry], return_when=asyncio.FIRST_COMPLETED)
                hurry.cancel()
                if not stopping.done():
                    stopping.cancel()
                    await process.stop(0)
        self._record_path.unlink(missing_ok=True)
        self._say("stopped")

    def _stands(self, part: Part) -> bool:
        return part.rests or self._ready[part.name].is_set()

    def _record(self) -> None:
        """Writes ``run.json``, whole or not at all: a full disk leaves the last one, until there is room."""
        record = {
            "runner": os.getpid(),
            "state": "ready" if self._announced and all(self._stands(part) for part in self._parts) else "starting",
            "base_url": self._settings.base_url,
            "parts": {
                part.name: {
                    "pid": self._processes[part.name].pid if part.name in self._processes else None,
                    "port": part.port,
                    "ready": self._ready[part.name].is_set(),
                    "log": str(part.log),
                }
                for part in self._parts
            },
        }
        draft = self._record_path.with_suffix(".part")
        try:
            draft.write_text(json.dumps(record, indent=2) + "\n")
            draft.replace(self._record_path)
        except OSError:
            self._unrecorded = True
        else:
            self._unrecorded = False


def _first(group: BaseExceptionGroup[LocalFault]) -> LocalFault:
    fault = group.exceptions[0]
    return _first(fault) if isinstance(fault, BaseExceptionGroup) else fault


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _last_words(log: Path, start: int) -> str:
    """The last line from ``start`` on, if it is a sentence for people: services print one when they refuse to start."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - _LAST_WORDS_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1].rstrip('.')}" if lines and not lines[-1].startswith(("{", "[")) else ""
