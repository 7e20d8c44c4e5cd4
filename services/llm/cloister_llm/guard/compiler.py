"""Tries schemas before vLLM sees them: in a process of their own, for a bounded time, one at a time.

vLLM compiles grammars in threads, which nothing can end, and reads schemas on the loop that streams everybody's
tokens. So what would take long, or hang, or crash must not get there: a trial says so before, in a process that can
be killed. What compiled once is remembered. Tenants take turns: one that sends many slow schemas waits for itself.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

from cloister_common.errors import InvalidRequest, Unavailable
from cloister_common.logs import get_logger

from cloister_llm.guard.schemas import NamedSchema
from cloister_llm.guard.trial import MODULE, READY

__all__ = ["Compiler"]

log = get_logger(__name__)

_CLOCK_FACTOR = 10
"""The kernel counts the trial's processor time; by the clock it may take longer, since the model computes beside it."""

_START_SECONDS = 60.0
"""A tenth of a second on a quiet machine."""

_REMEMBERED = 4096


class Compiler:
    """What may become a grammar.

    Args:
        seconds: Processor time that the schemas of one request may take.
        interpreter: The Python that has the compiler; vLLM's own, in which the guard runs.
    """

    def __init__(self, seconds: float, *, interpreter: str = sys.executable) -> None:
        self._seconds = seconds
        self._interpreter = interpreter
        self._known: OrderedDict[bytes, tuple[int, str] | None] = OrderedDict()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._trials = ThreadPoolExecutor(max_workers=1, thread_name_prefix="schema-trial")

    async def check(self, schemas: Sequence[NamedSchema], *, tenant: str) -> None:
        """Returns when vLLM's compiler will take all of ``schemas``.

        Args:
            schemas: Of one request, within the bounds of `check_json_schema`.
            tenant: Whose they are; any name that tells tenants apart.

        Raises:
            InvalidRequest: One of them uses what the compiler does not know, or takes too long or too much memory.
            Unavailable: No process can be started.
        """
        if not schemas:
            return
        raw = json.dumps([schema for _, schema in schemas]).encode()
        digest = hashlib.sha256(raw).digest()
        if digest not in self._known:
            turn = self._turns.setdefault(tenant, asyncio.Lock())
            async with turn:
                if digest not in self._known:
                    loop = asyncio.get_running_loop()
                    self._remember(digest, await loop.run_in_executor(self._trials, self._try, raw))
        self._known.move_to_end(digest)
        fault = self._known[digest]
        if fault is not None:
            index, reason = fault
            param = schemas[index].param
            raise InvalidRequest(f"Invalid value for '{param}': {reason}.", param=param, code="invalid_value")

    def close(self) -> None:
        """Lets no further trial begin."""
        self._trials.shutdown(wait=False, cancel_futures=True)

    def _remember(self, digest: bytes, fault: tuple[int, str] | None) -> None:
        self._known[digest] = fault
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _try(self, schemas: bytes) -> tuple[int, str] | None:
        """Runs one trial; gives the index of the schema at fault and the reason, if there is one."""
        request = b'{"seconds":%g,"schemas":%b}' % (self._seconds, schemas)
        try:
            done = subprocess.run(  # noqa: S603 - no shell, an argument list of ours
                [self._interpreter, "-m", MODULE],
                input=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                timeout=_START_SECONDS + _CLOCK_FACTOR * self._seconds,
                check=False,
            )
            status, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as error:
            status, output = -1, error.output or b""
        except OSError as error:
            log.error("schema_trial_not_started", error=type(error).__name__)
            raise _no_trial() from error
        if not output.startswith(READY):
            log.error("schema_trial_not_started", status=status)
            raise _no_trial()
        if status != 0:
            log.warning("schema_trial_ended", status=status)
            return 0, f"it takes more than {self._seconds:g} s or too much memory to compile. Ask for less of it"
        fault = json.loads(output.removeprefix(READY))
        return None if fault is None else (int(fault[0]), str(fault[1]))


def _environment() -> Mapping[str, str]:
    """The trial finds the modules that this process finds, and nothing else of it."""
    return {"PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder), "LLGUIDANCE_LOG_LEVEL": "0"}


def _no_trial() -> Unavailable:
    return Unavailable("The schema could not be tried on this pod. Try again.", retry_after=1)
