"""Files that change while a service runs: looked at, not listened to, since a mounted ConfigMap or Secret is renewed by
turning a link."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

__all__ = ["changes_of"]

_EVERY_SECONDS = 5.0


async def changes_of(path: Path, *, every: float = _EVERY_SECONDS) -> AsyncIterator[None]:
    """Goes on each time that ``path`` may hold something else than at the last look, and the first time in any case.

    Args:
        path: The file. One that is not there is looked for again.
        every: Seconds between two looks.
    """
    looked_at = None
    while True:
        await asyncio.sleep(every)
        try:
            facts = path.stat()  # noqa: ASYNC240 - no disk: the kernel has it at hand
        except OSError:
            continue
        version = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        if version != looked_at:
            looked_at = version
            yield
