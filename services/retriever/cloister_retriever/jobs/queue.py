"""The durable queue in the object store: markers for work, leases for who does it.

A marker is created before the caller gets its answer and deleted when the work is done, so nothing is forgotten. A
lease is an object ``<job>-<number>`` that only one process can create; its owner rewrites it now and then. Whoever
watches a lease that did not change for ``lease_seconds`` *by its own clock* may create the next number, so no two
clocks are ever compared. A process that was only slow, and lost its lease, does no harm: every job gives the same
result when it is done twice, even at the same time (ids are deterministic, outcomes are created once).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from cloister_common.ids import new_id
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError
from prometheus_client import Gauge
from pydantic import BaseModel

from cloister_retriever.editions import Edition
from cloister_retriever.jobs.names import JobName
from cloister_retriever.keys import system_key
from cloister_retriever.settings import Protection
from cloister_retriever.storage.layout import LEASES, QUEUE
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import SealedRecords

if TYPE_CHECKING:
    from _typeshed import SupportsRichComparison

__all__ = ["Claim", "Job", "JobQueue"]

log = get_logger(__name__)
_DEPTH = Gauge("cloister_ingest_queue_depth", "Jobs that wait or run, as this process last saw.")

_SHARE_DIGITS = 16
_LOOK_SECONDS = 0.5
"""So old may be what is told of a job's place."""

JobKind = Literal["ingest", "purge", "reembed", "prune"]


class Job(BaseModel):
    """A piece of work.

    ``ingest``: make passages of an attachment, and remove those of the attachment it ``replaces``. ``purge``: remove
    the passages of an attachment from the index; where its file is named the attachment ends with them, and where no
    attachment is named the whole store does. ``reembed``: fill an edition of a store with what it lacks of the other,
    and see to what follows. ``prune``: remove an edition that was given up.
    """

    name: str
    kind: JobKind
    tenant: str
    store_id: str
    file_id: str | None = None
    attachment_id: str | None = None
    replaces: str | None = None
    protection: Protection | None = None
    """Of the vector store, where whoever put the job knew it."""

    edition: Edition | None = None
    """Of the vector store, where the job is about one."""

    switch: bool = False
    """Of ``reembed``: whether the edition is to be searched once it has everything."""


class Claim(BaseModel):
    """The right to do a job, for as long as it is kept alive. ``number`` counts the claims this job has had."""

    job: Job
    number: int

    @property
    def path(self) -> str:
        return f"{LEASES}/{self.job.name}-{self.number:08d}"


class _Looked(NamedTuple):
    """The jobs that waited at a moment of the monotonic clock."""

    at: float
    waiting: list[JobName]


class JobQueue:
    """Puts, claims and ends jobs."""

    def __init__(self, objects: Objects, keyring: Keyring, records: SealedRecords, *, lease_seconds: float) -> None:
        self._objects = objects
        self._keyring = keyring
        self._records = records
        self._lease_seconds = lease_seconds
        self._seen: dict[str, tuple[str, float]] = {}
        self._mine: set[str] = set()
        self._elsewhere: Counter[str] = Counter()
        self._looked: _Looked | None = None
        self.woken = asyncio.Event()

    async def put(
        self,
        kind: JobKind,
        tenant: str,
        store_id: str,
        *,
        file_id: str | None = None,
        attachment_id: str | None = None,
        replaces: str | None = None,
        protection: Protection | None = None,
        edition: Edition | None = None,
        switch: bool = False,
        size: int = 0,
    ) -> Job:
        """Adds a job; it is durable when this returns. Call `wake` when what it is about is there too.

        Args:
            size: Bytes of the file that is to be read; a removal reads none.
        """
        about = attachment_id if kind == "ingest" and attachment_id is not None else new_id("")
        job = Job(
            name=str(JobName.made(time.time_ns(), await self._share(tenant), size, about)),
            kind=kind,
            tenant=tenant,
            store_id=store_id,
            file_id=file_id,
            attachment_id=attachment_id,
            replaces=replaces,
            protection=protection,
            edition=edition,
            switch=switch,
        )
        await self._records.put(f"{QUEUE}/{job.name}", job, await system_key(self._keyring))
        return job

    async def put_again(self, job: Job) -> None:
        """Adds a job once more, whose marker was removed too early."""
        name = JobName.read(job.name)._replace(put_ns=time.time_ns(), share=await self._share(job.tenant))
        again = job.model_copy(update={"name": str(name)})
        await self._records.put(f"{QUEUE}/{again.name}", again, await system_key(self._keyring))

    async def note(self, job: Job, edition: Edition, protection: Protection | None) -> None:
        """Says in a job's marker where it is about to write: whoever clears up behind it cannot learn that from a store
        that is gone."""
        noted = job.model_copy(update={"edition": edition, "protection": protection})
        await self._records.put(f"{QUEUE}/{job.name}", noted, await system_key(self._keyring))

    async def noted(self, job: Job) -> Job:
        """The job with what was noted of it since it was claimed."""
        return await self._job(job.name, await system_key(self._keyring)) or job

    def wake(self) -> None:
        """Lets a worker of this process look now instead of at its next round."""
        self.woken.set()

    async def waits(self, job: Job) -> bool:
        """Whether the job is still to be done."""
        return await self._objects.get(f"{QUEUE}/{job.name}") is not None

    async def names(self) -> set[str]:
        """All jobs that are to be done, or are being done."""
        return {listed.leaf for listed in await self._objects.list(QUEUE)}

    async def claim(
        self,
        rank: "Callable[[str], SupportsRichComparison | None]" = lambda _: 0,
        *,
        small: bool = False,
        rests: Callable[[str], bool] = lambda _: False,
    ) -> Claim | None:
        """A job nobody works on, claimed; None if there is none.

        Args:
            rank: Takes a job's share. Jobs of the least rank come first, of one share those that are `JobName.due`
                first; those whose rank is None are left to others. It is asked after `elsewhere` was counted anew.
            small: Only those of small files.
            rests: Takes a job's share. Of those that rest no file is begun; what removes or copies is.
        """
        free = {
            name: number for name, number in (await self._free()).items() if not small or JobName.read(name).is_small
        }
        ranks = {share: rank(share) for share in {JobName.read(name).share for name in free}}
        names = [
            name
            for name in free
            if ranks[JobName.read(name).share] is not None
            and not (JobName.read(name).reads_file and rests(JobName.read(name).share))
        ]
        key = None
        for name in sorted(names, key=lambda name: (ranks[JobName.read(name).share], JobName.read(name).due, name)):
            key = key or await system_key(self._keyring)
            job = await self._job(name, key)
            if job is None:
                continue
            claim = Claim(job=job, number=free[name])
            if await self._objects.create(claim.path, b"0"):
                self._mine.add(name)
                return claim
        return None

    async def shares(self) -> dict[str, bool]:
        """The shares that have a job which nobody works on, each with whether it has one of a small file."""
        shares: dict[str, bool] = {}
        for name in map(JobName.read, await self._free()):
            shares[name.share] = shares.get(name.share, False) or name.is_small
        return shares

    async def standing(self, tenant: str) -> dict[str, int]:
        """How many of the tenant's jobs come before each of those that wait, by what they are about.

        As of a moment ago: many may ask.
        """
        if self._looked is None or time.monotonic() - self._looked.at > _LOOK_SECONDS:
            names = await self.names()
            held = await self._leases()
            self._looked = _Looked(time.monotonic(), [JobName.read(name) for name in names if name not in held])
        share = await self._share(tenant)
        own = sorted((name for name in self._looked.waiting if name.share == share), key=lambda name: name.due)
        return {name.about: number for number, name in enumerate(own) if name.about}

    def elsewhere(self, share: str) -> int:
        """How many jobs of a share other processes had in work, when this one last looked."""
        return self._elsewhere[share]

    async def keep(self, claim: Claim) -> bool:
        """Says that the owner lives; False if somebody else has taken the job over."""
        await self._objects.put(claim.path, str(time.monotonic_ns()).encode())
        held = (await self._leases()).get(claim.job.name)
        return held is None or held[0] <= claim.number

    async def done(self, claim: Claim) -> None:
        """Ends the job: its marker first, then its leases."""
        await self.drop(claim.job)
        for number in range(1, claim.number + 1):
            await self._objects.delete(Claim(job=claim.job, number=number).path)
        self._mine.discard(claim.job.name)

    async def drop(self, job: Job) -> None:
        """Removes a job's marker: it is done, or not wanted any more."""
        await self._objects.delete(f"{QUEUE}/{job.name}")

    def abandon(self, claim: Claim) -> None:
        """Lets go of a claim without ending the job: another claim may follow when the lease has run out."""
        self._mine.discard(claim.job.name)

    async def release(self, claim: Claim) -> None:
        """Gives the job back: another process may claim it at once."""
        await self._objects.delete(claim.path)
        self.abandon(claim)

    async def _free(self) -> dict[str, int]:
        """The names of the jobs nobody works on, each with the number its next claim has."""
        names = [listed.leaf for listed in await self._objects.list(QUEUE)]
        _DEPTH.set(len(names))
        leases = await self._leases()
        await self._forget_ended(set(names), leases)
        free = {}
        elsewhere: Counter[str] = Counter()
        for name in names:
            held = leases.get(name)
            if name in self._mine:
                continue
            if held is None or self._expired(name, held):
                free[name] = 1 if held is None else held[0] + 1
            else:
                elsewhere[JobName.read(name).share] += 1
        self._elsewhere = elsewhere
        return free

    async def _job(self, name: str, key: DataKey) -> Job | None:
        try:
            return await self._records.get(f"{QUEUE}/{name}", Job, key)
        except VaultError:
            # One marker that was tampered with must not keep the others from being seen.
            log.error("job_did_not_open", job=name)
            return None

    async def _share(self, tenant: str) -> str:
        """What a job's name says of its tenant: whose jobs belong together, as the paths of a tenant say too."""
        return (await self._keyring.name(tenant, "ingest-share"))[:_SHARE_DIGITS]

    async def _leases(self) -> dict[str, tuple[int, str]]:
        """The highest claim number of each job, and its lease's e-tag."""
        held: dict[str, tuple[int, str]] = {}
        for listed in await self._objects.list(LEASES):
            name, _, number = listed.leaf.rpartition("-")
            if number.isdigit() and int(number) > held.get(name, (0, ""))[0]:
                held[name] = (int(number), listed.e_tag)
        return held

    def _expired(self, name: str, held: tuple[int, str]) -> bool:
        state = f"{held[0]}/{held[1]}"
        before = self._seen.get(name)
        now = time.monotonic()
        if before is None or before[0] != state:
            self._seen[name] = (state, now)
            return False
        return now - before[1] > self._lease_seconds

    async def _forget_ended(self, names: set[str], leases: dict[str, tuple[int, str]]) -> None:
        """Removes leases whose job is gone: their owner died between the two deletions of `done`."""
        for name in list(self._seen):
            if name not in names and name not in leases:
                del self._seen[name]
        for name, held in leases.items():
            if name not in names and name not in self._mine and self._expired(name, held):
                for number in range(1, held[0] + 1):
                    await self._objects.delete(f"{LEASES}/{name}-{number:08d}")
