"""How far files on their way are, as a person sees it: what has been read of how much, and what waits before them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from cloister_common.vault import DataKey
from pydantic import BaseModel

from cloister_retriever.jobs.queue import JobQueue
from cloister_retriever.pages import Wire
from cloister_retriever.vector_stores.records import Attached, Reading
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["Following", "Progress", "poll_after_ms", "progress_of", "progress_of_all"]

_SOONEST_MS = 100
_LATEST_MS = 1000
"""What OpenAI's client waits by itself in Python. It asks once how long, and waits so from then on."""

_FILE_MS = 100
"""What a small file takes, as measured on two cores."""


class Progress(BaseModel):
    """How far a file is that has not ended.

    Attributes:
        files_ahead: Files of the same project that come before it, where it waits; those of others take turns with it.
            None where it is being read, or its job does not say whose it is.
        reading: What has been read and embedded of it; None before the first second of that.
    """

    files_ahead: int | None = None
    reading: Reading | None = None

    @property
    def stage(self) -> Literal["waiting", "reading", "embedding"]:
        """What is done with the file just now."""
        if self.files_ahead is not None:
            return "waiting"
        return "embedding" if self.reading is not None and self.reading.passages is not None else "reading"


class Following:
    """Looks where files stand that are on their way."""

    def __init__(self, store: VectorStoreStore, queue: JobQueue) -> None:
        self._store = store
        self._queue = queue

    async def of(self, tenant: str, store_id: str, key: DataKey, files: Collection[Attached]) -> dict[str, Progress]:
        """How far those of the files are that have not ended, by their attachment. Nothing is read where all have."""
        going = [file.record.id for file in files if file.outcome is None]
        if not going:
            return {}
        standing = await self._queue.standing(tenant)
        notes = await self._store.readings(tenant, store_id, key)
        return {one: Progress(files_ahead=standing.get(one), reading=notes.get(one)) for one in going}


def progress_of(file: Attached, progress: Mapping[str, Progress]) -> Wire:
    """What a file's object says of it, beside OpenAI's fields."""
    if file.outcome is None:
        one = progress.get(file.record.id, Progress())
        reading = one.reading or Reading()
        stage: str = one.stage
    elif file.outcome.status == "completed":
        pages, passages = file.outcome.pages, file.outcome.passages
        one, stage = Progress(), "completed"
        reading = Reading(pages_done=pages, pages=pages, passages_done=passages, passages=passages)
    else:
        return {}
    return {
        "progress": {
            "stage": stage,
            "files_ahead": one.files_ahead,
            "pages_done": reading.pages_done,
            "pages_total": reading.pages,
            "passages_done": reading.passages_done,
            "passages_total": reading.passages,
        }
    }


def progress_of_all(files: Sequence[Attached], progress: Mapping[str, Progress]) -> Wire:
    """What the object of a vector store or of a batch says of its files, beside OpenAI's fields."""
    ended = [file.outcome for file in files if file.outcome is not None]
    going = progress.values()
    waiting = [one.files_ahead for one in going if one.files_ahead is not None]
    readings = [one.reading for one in going if one.reading is not None]
    passages = sum(outcome.passages for outcome in ended)
    pages = sum(outcome.pages or 0 for outcome in ended)
    wire: Wire = {
        "progress": {
            "files_waiting": len(waiting),
            "files_reading": len(files) - len(ended) - len(waiting),
            "files_ahead": min(waiting, default=None),
            "pages_done": pages + sum(one.pages_done or 0 for one in readings),
            "pages_total": pages + sum(one.pages or 0 for one in readings),
            "passages_done": passages + sum(one.passages_done or 0 for one in readings),
            "passages_total": passages + sum(one.passages or 0 for one in readings),
        }
    }
    left_out = _left_out(files)
    return wire if left_out is None else {**wire, "status_details": left_out}


def _left_out(files: Sequence[Attached]) -> str | None:
    """A sentence on the files that cannot be found, or not as a whole."""
    failed = sum(file.status == "failed" for file in files)
    partly = sum(file.outcome is not None and file.outcome.details is not None for file in files)
    parts = [f"{_counted(failed)} not read (last_error says why)"] if failed else []
    parts += [f"{_counted(partly)} read in part, or perhaps wrongly (status_details says what)"] if partly else []
    return f"{', and '.join(parts)}." if parts else None


def _counted(number: int) -> str:
    return "1 file was" if number == 1 else f"{number} files were"


def poll_after_ms(files: Sequence[Attached], progress: Mapping[str, Progress]) -> dict[str, str]:
    """The header by which OpenAI's clients know when to ask again: soon for a small file, a second at most."""
    going = [progress.get(file.record.id, Progress()) for file in files if file.outcome is None]
    if not going:
        return {}
    before = min((one.files_ahead or 0 for one in going), default=0)
    wait = min(max(_FILE_MS * (len(going) + before), _SOONEST_MS), _LATEST_MS)
    return {"openai-poll-after-ms": str(wait)}
