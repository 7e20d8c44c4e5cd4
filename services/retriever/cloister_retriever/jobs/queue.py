"""The durable queue in the object store: markers for work, leases for who does it.

A marker is created before the caller gets its answer and deleted when the work is done, so nothing is forgotten. A
lease is an object ``<job>-<number>`` that only one process can create; its owner rewrites it now and then. Whoever
watches a lease that did not change for ``lease_seconds`` *by its own clock* may create the next number, so no two
clocks are ever compared. A process that was only slow, and lost its lease, does no harm: every job gives the same
result when it is done twice, even at the same time (ids are deterministic, outcomes are created once).
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from cloister_common.ids import new_id
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError
from prometheus_client import Gauge
from pydantic import BaseModel

from cloister_retriever.keys import system_key
from cloister_retriever.settings import Protection
from cloister_retriever.storage.layout import LEASES, QUEUE
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import SealedRecords

if TYPE_CHECKING:
    from _typeshed import SupportsRichComparison

__all__ = ["Claim", "Job", "JobQueue", "share_of"]

log = get_logger(__name__)
_DEPTH = Gauge("cloister_ingest_queue_depth", "Jobs that wait or run, as this process last saw.")

_SHARE_DIGITS = 16


class Job(BaseModel):
    """A piece of work.

    ``ingest``: make passages of an attachment, and remove those of the attachment it ``replaces``. ``purge``: remove
    the passages of an attachment from the index; where its file is named the attachment ends with them, and where no
    attachment is named the whole store does.
    """

    name: str
    kind: Literal["ingest", "purge"]
    tenant: str
    store_id: str
    file_id: str | None = None
    attachment_id: str | None = None
    replaces: str | None = None
    protection: Protection | None = None
    """Of the vector store, where whoever put the job knew it."""


class Claim(BaseModel):
    """The right to do a job, for as long as it is kept alive. ``number`` counts the claims this job has had."""

    job: Job
    number: int

    @property
    def path(self) -> str:
        return f"{LEASES}/{self.job.name}-{self.number:08d}"


def share_of(job_name: str) -> str:
    """Which tenant's share a job counts to: a name for the tenant. Jobs of the version before have one together."""
    parts = job_name.split("-")
    return parts[1] if len(parts) == 3 else ""


class JobQueue:
    """Puts, claims and ends jobs."""

    def __init__(self, objects: Objects, keyring: Keyring, records: SealedRecords, *, lease_seconds: float) -> None:
        self._objects = objects
        self._keyring = keyring
        self._records = records
        self._lease_seconds = lease_seconds
        self._seen: dict[str, tuple[str, float]] = {}
        self._mine: set[str] = set()
        self.woken = asyncio.Event()

    async def put(
        self,
        kind: Literal["ingest", "purge"],
        tenant: str,
        store_id: str,
        *,
        file_id: str | None = None,
        attachment_id: str | None = None,
        replaces: str | None = None,
        protection: Protection | None = None,
    ) -> Job:
        """Adds a job; it is durable when this returns. Call `wake` when what it is about is there too."""
        job = Job(
            name=new_id(f"{time.time_ns():019d}-{await self._share(tenant)}-"),
            kind=kind,
            tenant=tenant,
            store_id=store_id,
            file_id=file_id,
            attachment_id=attachment_id,
            replaces=replaces,
            protection=protection,
        )
        await self._records.put(f"{QUEUE}/{job.name}", job, await system_key(self._keyring))
        return job

    def wake(self) -> None:
        """Lets a worker of this process look now instead of at its next round."""
        self.woken.set()

    async def waits(self, job: Job) -> bool:
        """Whether the job is still to be done."""
        return await self._objects.get(f"{QUEUE}/{job.name}") is not None

    async def claim(self, rank: "Callable[[str], SupportsRichComparison | None]" = lambda _: 0) -> Claim | None:
        """A job nobody works on, claimed; None if there is none.

        Args:
            rank: Takes a job's share. Jobs of the least rank come first, the oldest of them first of all; those whose
                rank is None are left to others.
        """
        free = await self._free()
        ranks = {share: rank(share) for share in map(share_of, free)}
        names = [name for name in free if ranks[share_of(name)] is not None]
        key = None
        for name in sorted(names, key=lambda name: (ranks[share_of(name)], name)):
            key = key or await system_key(self._keyring)
            job = await self._job(name, key)
            if job is None:
                continue
            claim = Claim(job=job, number=free[name])
            if await self._objects.create(claim.path, b"0"):
                self._mine.add(name)
                return claim
        return None

    async def shares(self) -> set[str]:
        """The shares that have a job which nobody works on."""
        return set(map(share_of, await self._free()))

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
        for name in names:
            held = leases.get(name)
            if name not in self._mine and (held is None or self._expired(name, held)):
                free[name] = 1 if held is None else held[0] + 1
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
