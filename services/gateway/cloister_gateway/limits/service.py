"""The meter that holds generations to their limits.

What a generation may use at most is reserved before it begins: the tokens of its prompt, by the model's own tokenizer
or, where it is short beside the limits, by an upper bound that costs no question; and of its longest answer. It is
settled with what it used. So what was used never exceeds a limit, whatever comes together over however many gateways.

A reservation is a lease, which the gateway that works for it renews. Where all of them die it is over after
`LEASE_SECONDS`: then what runs at once is free again, and what was reserved counts as used, since that is the most it
may have been; a run that is taken up later still settles it with what it was. While Redis does not answer nothing is
begun.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger
from cloister_common.settings import SettingsError, load_settings
from cloister_common.supervisor import Supervisor
from cloister_common.vault import Keyring, VaultError
from cloister_common.vault.cache import ShortCache
from cloister_common.watching import changes_of
from prometheus_client import Counter

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.limit_settings import LimitSettings
from cloister_gateway.limits.granted import GrantedLimits
from cloister_gateway.limits.notes import Notes, note_of
from cloister_gateway.limits.refusal import headers_of, is_over, refusal_of
from cloister_gateway.limits.reservations import LEASE_SECONDS, Amounts, Count, Group, Reservations, Stand
from cloister_gateway.limits.rules import Bound, Granted, SpendAlert, Whom, bounds_of
from cloister_gateway.limits.settling import Settlement, Settling
from cloister_gateway.limits.warnings import Warnings
from cloister_gateway.settings import GatewaySettings
from cloister_gateway.storage.client import REDIS_AWAY
from cloister_gateway.storage.layout import limit_key
from cloister_gateway.usage import Ending, Generation, PromptSize, Used
from cloister_gateway.wire.faults import fault_of

__all__ = ["Limits", "Outlook"]

log = get_logger(__name__)
_DECIDED = Counter(
    "cloister_limit_decisions_total", "Generations with limits, by whether they were let begin.", ["let"]
)
_LET, _REFUSED = _DECIDED.labels("yes"), _DECIDED.labels("no")
_LOST = Counter("cloister_limit_leases_lost_total", "Reservations whose gateway died, and that nobody took up.")

_RENEW_SECONDS = LEASE_SECONDS / 4
_LOOK_SECONDS = 2.5
_SECONDS_KNOWN, _MOST_KNOWN = 3600.0, 20_000
_SECONDS_REFUSED = 60.0
"""So long a caller who was over a limit is taken for one who may be again: a limit of a minute has begun anew then."""
_COUNTED_SHARE = 16
"""A prompt whose upper bound is more than this part of a limit is counted: bounds are three to four times too high."""


@dataclass(frozen=True, slots=True)
class _Reserved:
    """What a generation of this gateway has reserved, in tokens."""

    project: str
    read: int
    written: int


class _Known(NamedTuple):
    """What holds for the generations of one caller, model and kind: the counts, the least limit of tokens that are
    read, the prices of a token that is read and of one that is written, the alerts by the key of their count, and what
    notes of them begin with. All that need not be made anew for each decision is in it."""

    groups: tuple[Group, ...]
    smallest: int | None
    prices: tuple[float, float]
    alerts: Mapping[str, Sequence[SpendAlert]]
    whose: str

    def is_short(self, prompt: PromptSize) -> bool:
        """Whether a limit is so low beside the bound of ``prompt`` that its tokens are counted."""
        return self.smallest is not None and prompt.at_most * _COUNTED_SHARE > self.smallest


class Outlook(NamedTuple):
    """How a limit over a time stands, and what a generation would take of it.

    Attributes:
        bound: What the limit is about.
        most: How much it allows.
        used: What is used and reserved of it.
        takes: What the generation would reserve.
    """

    bound: Bound
    most: int
    used: int
    takes: int


class Limits:
    """A `Meter` that reserves and settles.

    Args:
        settings: The rules.
        reservations: What is reserved and used.
        granted: Makes what administrators set; it is given what to call when that changes.
        keyring: Names counts.
        running: The runs of this gateway: their projects by their ids.
        lost: Told of generations that nobody settled while their lease lasted, with what they count as; and again where
            it was interrupted.
    """

    def __init__(
        self,
        settings: LimitSettings,
        reservations: Reservations,
        granted: Callable[[Callable[[], None]], GrantedLimits],
        keyring: Keyring,
        running: Callable[[], Mapping[str, str]],
        lost: Callable[[Generation, Used], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._reservations = reservations
        self._keyring = keyring
        self._running = running
        self._lost = lost
        self._notes = Notes(keyring)
        self._changes = 0
        self._known: ShortCache[_Known] = ShortCache(seconds=_SECONDS_KNOWN, most=_MOST_KNOWN)
        self.granted = granted(self._forget)
        self._refused: ShortCache[bool] = ShortCache(seconds=_SECONDS_REFUSED, most=_MOST_KNOWN)
        self._warnings = Warnings()
        self._open: dict[str, _Reserved] = {}
        self._settling = Settling(reservations)

    @property
    def settings(self) -> LimitSettings:
        """The rules and prices in force."""
        return self._settings

    @property
    def are_any(self) -> bool:
        """Whether anything is limited."""
        return bool(self._settings.rules or self.granted)

    def start(self, supervisor: Supervisor, settings_file: Path | None) -> None:
        """Begins to settle, to renew and to follow what is set; ends with the supervisor. Before, `granted` is read."""
        self.granted.listen()
        supervisor.loop("limits-granted", self.granted.follow)
        supervisor.loop("limits-settle", self._settling.settle_all)
        supervisor.loop("limits-renew", self._renew_all)
        if settings_file is not None:
            supervisor.loop("limits-rules", lambda: self._follow(settings_file))

    async def reserve(
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: PromptSize | None = None
    ) -> Mapping[str, str] | None:
        """Reserves what ``generation`` may use, at all levels or at none.

        Raises:
            LimitReached: It is over a limit.
            Unavailable: Redis does not answer.
        """
        if not self.are_any:
            return None
        try:
            known = self._known.get(_name_of(generation)) or await self._look_up(generation)
            if not known.groups:
                return None
            return await self._reserve(generation, known, most_output_tokens, prompt_tokens or PromptSize(0))
        except CloisterError:
            raise
        except Exception as error:
            raise fault_of(error, generation=generation.id) from error

    def held_at(self, generation: Generation, prompt_tokens: PromptSize) -> str | None:
        """Where it will be held, unless its prompt may have to be counted first, or a limit has refused the same caller
        a moment ago: what is sent with a reservation that is refused was made for nothing."""
        name = _name_of(generation)
        known = self._known.get(name)
        if known is None or not known.groups or known.is_short(prompt_tokens) or self._refused.get(name):
            return None
        return self._reservations.held_at(known.groups)

    def settle(self, generation: Generation, used: Used, ending: Ending) -> None:
        """Ends the reservation, soon; ``used`` is from then on what counts, to the ledger as well."""
        reserved = self._open.pop(generation.id, None)
        # (What was reserved elsewhere is known by Redis alone, and so is whether anything was.)
        if reserved is not None or (generation.kind == "response" and self.are_any):
            used.prompt, used.output = read, written = _used(used, ending, reserved)
            self._settling.note(generation.id, Settlement(generation.tenant, read, written))

    async def settle_now(self, generation: Generation, used: Used) -> None:
        """The same of an ingestion, which may have been reserved by any gateway. Raises what redis-py raises; doing it
        again changes nothing."""
        began = used.prompt > 0
        kept = await self._reservations.settle(generation.tenant, generation.id, used.prompt, 0, requests=int(began))
        if not kept:
            log.error("limit_reserved_too_little", generation=generation.id, read=used.prompt, written=0)

    def _forget(self) -> None:
        """What holds for whom is looked up anew."""
        self._changes += 1
        self._known.clear()

    async def used(self, owner: str, bound: Bound) -> int:
        """What is used and reserved now of what a limit of ``owner`` is about."""
        project = "" if owner == ORGANIZATION else owner
        return await self._reservations.used(await self._count(project, bound, 0))

    async def outlook(
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: PromptSize
    ) -> list[Outlook]:
        """What ``generation`` would reserve of each limit that holds for it. Nothing is reserved.

        Raises:
            CloisterError: As `reserve`, but for what is over a limit.
        """
        if not self.are_any:
            return []
        try:
            known = await self._look_up(generation)
            amounts = _amounts(prompt_tokens, most_output_tokens, known.prices)
            counts = [count for group in known.groups for count in group.counts if count.bound.per is not None]
            return [
                Outlook(count.bound, count.most, await self._reservations.used(count), amounts.of(count.bound.unit))
                for count in counts
            ]
        except CloisterError:
            raise
        except Exception as error:
            raise fault_of(error, generation=generation.id) from error

    async def flush(self) -> None:
        """Settles all that has ended, before the process does."""
        with suppress(*REDIS_AWAY):
            await self._settling.settle_pending()

    async def _look_up(self, generation: Generation) -> _Known:
        """What holds for a generation."""
        whom = Whom(generation.tenant, generation.user, generation.key_id, generation.model)
        changes = self._changes
        rules = self._settings.rules.values()
        mine, all_of_us = self.granted.of(whom.project), self.granted.of(ORGANIZATION)
        bounds = bounds_of(rules, mine, all_of_us, whom)
        counts = [await self._count(whom.project, bound, most) for bound, most in bounds.items()]
        price = self._settings.prices.get(whom.model)
        known = _Known(
            self._reservations.groups(whom.project, counts),
            min((one.most for one in counts if one.bound.unit in {"tokens", "input_tokens"}), default=None),
            (0.0, 0.0) if price is None else (price.input, price.output),
            {
                count.key: owner.alerts
                for count in counts
                if (owner := _owner_of(count.bound, mine, all_of_us)) is not None and owner.alerts
            },
            await self._notes.whose(generation) if counts else "",
        )
        if changes == self._changes:
            self._known.put(_name_of(generation), known)
        return known

    async def _count(self, project: str, bound: Bound, most: int) -> Count:
        owner = ORGANIZATION if bound.level == "organization" else project
        parts = (bound.level, bound.subject, bound.model, bound.unit, bound.per or "")
        return Count(limit_key(owner, await self._keyring.name(owner, "limit", *parts)), bound, most)

    async def _reserve(
        self, generation: Generation, known: _Known, most_output: int, size: PromptSize
    ) -> Mapping[str, str]:
        if known.is_short(size):
            size = await _counted(size)
        while True:
            amounts = _amounts(size, most_output, known.prices)
            reserved, stands = await self._try(generation, known, amounts)
            if reserved or size.count is None or not _is_for_tokens(stands, amounts):
                break
            size = await _counted(size)
        if not reserved:
            _REFUSED.inc()
            self._refused.put(_name_of(generation), True)
            raise refusal_of(stands, amounts, model=generation.model, currency=self._settings.currency)
        _LET.inc()
        if generation.kind != "ingestion":
            # (That of a file outlives gateways: whichever looks after it now renews it.)
            self._open[generation.id] = _Reserved(generation.tenant, amounts.read, amounts.written)
        self._warnings.look(stands, known.alerts)
        return headers_of(stands)

    async def _try(self, generation: Generation, known: _Known, amounts: Amounts) -> tuple[bool, list[Stand]]:
        note = note_of(known.whose, generation, amounts.read, amounts.together - amounts.read)
        try:
            return await self._reservations.reserve(generation.id, known.groups, amounts, note)
        except BaseException:
            # It may be reserved all the same: an answer was lost, or its caller is gone. (Not so an ingestion's, which
            # asks again: what is given back late would be what it was granted since, maybe at another gateway.)
            if generation.kind != "ingestion":
                self._settling.note(generation.id, Settlement(generation.tenant, 0, 0, requests=0))
            raise

    async def _renew_all(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            if not self.are_any:
                continue
            try:
                await self._renew()
                lost = await self._reservations.expire(self._tell_lost)
            except REDIS_AWAY as error:
                log.warning("limits_not_renewed", generations=len(self._open), error=type(error).__name__)
                continue
            for owner, count in lost.items():
                _LOST.inc(count)
                log.warning("limit_leases_lost", owner=owner, generations=count)

    async def _tell_lost(self, note: str) -> None:
        try:
            generation, used = await self._notes.read(note)
        except VaultError as error:
            log.error("limit_note_damaged", exc_info=error)
            return
        await self._lost(generation, used)

    async def _renew(self) -> None:
        working = {name: reserved.project for name, reserved in self._open.items()} | dict(self._running())
        by_project: dict[str, list[str]] = {}
        for name, project in working.items():
            by_project.setdefault(project, []).append(name)
        for project, names in by_project.items():
            held = await self._reservations.renew(project, names)
            for name in names:
                if name not in held:
                    # It was settled by whoever took its run over.
                    self._open.pop(name, None)

    async def _follow(self, settings_file: Path) -> None:
        """Takes over the rules that the file names. A file with any mistake in it changes nothing."""
        async for _ in changes_of(settings_file, every=_LOOK_SECONDS):
            try:
                settings = load_settings(GatewaySettings, settings_file).limits
            except SettingsError as error:
                log.error("limits_unchanged", reason=str(error))
                continue
            if settings != self._settings:
                self._settings = settings
                self._forget()
                log.warning("limits_changed", rules=sorted(settings.rules))


def _name_of(one: Generation) -> str:
    """What is the same of all generations for which the same holds."""
    return f"{one.tenant}\0{one.user}\0{one.key_id}\0{one.model}\0{one.kind}\0{one.batch}"


def _owner_of(bound: Bound, project: Granted | None, organization: Granted | None) -> Granted | None:
    """What administrators have set about a count, if it is of the money that a project, or all of them, spend."""
    if (bound.unit, bound.per, bound.model) != ("spend", "month", ""):
        return None
    return {"project": project, "organization": organization}.get(bound.level)


def _amounts(size: PromptSize, most_output: int, prices: tuple[float, float]) -> Amounts:
    """What a generation wants: of an answer, where its prompt was counted, no more than that leaves of the context."""
    read, written, most = size.at_most, most_output, size.most_together
    if most is None:
        return Amounts(read, written, read + written, *prices)
    if size.exact:
        written = max(0, min(written, most - read))
    return Amounts(read, written, min(read + written, max(most, read)), *prices)


def _is_for_tokens(stands: Sequence[Stand], amounts: Amounts) -> bool:
    """Whether nothing but tokens, or their price, refused it."""
    return all(stand.limit.bound.unit not in {"requests", "running"} for stand in stands if is_over(stand, amounts))


async def _counted(size: PromptSize) -> PromptSize:
    """The size by the model's own tokenizer. What no pod can count now stays bounded."""
    if size.count is None:
        return size
    try:
        tokens = await size.count()
    except CloisterError:
        return replace(size, count=None)
    return PromptSize(tokens, None, size.most_together, exact=True)


def _used(used: Used, ending: Ending, reserved: _Reserved | None) -> tuple[int, int]:
    """What counts as read and written. Where nobody knows, since its caller left before its model said, what it may
    have been at most."""
    if reserved is None or (used.exact and not used.silent):
        return used.prompt, used.output
    if used.silent:
        return (reserved.read, reserved.written) if ending == "cancelled" else (0, 0)
    begun = used.output > 0 or ending == "cancelled"
    return used.prompt or (reserved.read if begun else 0), used.output
