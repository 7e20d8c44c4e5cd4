"""Who calls, for every kind of credential; and revocations that come at the worst moment."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Literal

import pytest
from cloister_common.errors import Unauthenticated
from cloister_common.supervisor import Supervisor
from cloister_gateway.identity import tokens
from cloister_gateway.identity.api_keys import ApiKeyVerifier
from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.last_use import LastUse
from cloister_gateway.identity.principal import Credential, Principal
from cloister_gateway.identity.records import StoredKey
from cloister_gateway.identity.verification import Verifier

PEPPER = b"pepper"


async def nowhere(used: dict[str, int]) -> None:
    """Takes the times of last use."""


def authenticator_of(*verifiers: Verifier) -> Authenticator:
    announcements: Any = None
    return Authenticator(verifiers, announcements, LastUse(nowhere), Supervisor())


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


class Tickets:
    """Verifies tokens of another form than API keys have, each once."""

    kind: Literal["api_key"] = "api_key"

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.asked: list[str] = []

    def reads(self, token: str) -> bool:
        return token.startswith(self.prefix)

    async def verify(self, token: str) -> Principal:
        self.asked.append(token)
        return Principal("proj_a", "someone", Credential(self.kind, token), frozenset({"api"}), frozenset({"staff"}))

    async def ended(self, principals: Collection[Principal]) -> Collection[Principal]:
        return [one for one in principals if one.credential.id == f"{self.prefix}ended"]


async def test_a_key_that_is_revoked_while_it_is_verified_is_not_let_in() -> None:
    key = tokens.mint()
    bare = StoredKey(key.id, b"", "project", "proj_a", frozenset({"api"}))
    record = replace(bare, mac=tokens.digest(PEPPER, key, *bare.grant))

    class Store:
        """Has the key until it was read once: its revocation comes right behind that."""

        asked = 0

        async def stored_key(self, key_id: str) -> StoredKey | None:
            self.asked += 1
            authenticator.revocations.hear({"key_id": key.id})
            return record if self.asked == 1 else None

    store: Any = Store()
    authenticator = authenticator_of(ApiKeyVerifier(store, [PEPPER]))
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(bearer(key.token))
    assert store.asked == 2


async def test_a_token_is_judged_by_the_verifier_of_its_form_and_remembered() -> None:
    first, second = Tickets("one_"), Tickets("two_")
    authenticator = authenticator_of(first, second)
    for _ in range(2):
        assert (await authenticator.authenticate(bearer("two_x"))).groups == {"staff"}
    assert (first.asked, second.asked) == ([], ["two_x"])


class Held(Tickets):
    """Verifies when the test lets it, and fails as often as the test says."""

    def __init__(self) -> None:
        super().__init__("one_")
        self.may = asyncio.Event()
        self.failures = 0

    async def verify(self, token: str) -> Principal:
        principal = await super().verify(token)
        await self.may.wait()
        if self.failures:
            self.failures -= 1
            raise Unauthenticated("refused as the test asked")
        return principal


def come(authenticator: Authenticator, token: str, many: int) -> list["asyncio.Task[Principal]"]:
    return [asyncio.create_task(authenticator.authenticate(bearer(token))) for _ in range(many)]


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_who_comes_with_the_same_token_at_once_is_verified_together() -> None:
    held = Held()
    authenticator = authenticator_of(held)
    callers = [*come(authenticator, "one_x", 50), *come(authenticator, "one_y", 50)]
    await wait_for(lambda: len(held.asked) == 2)
    held.may.set()
    assert [one.credential.id for one in await asyncio.gather(*callers)] == ["one_x"] * 50 + ["one_y"] * 50
    assert sorted(held.asked) == ["one_x", "one_y"]


async def test_a_verification_that_fails_fails_all_who_wait_for_it_and_nobody_after() -> None:
    held = Held()
    authenticator = authenticator_of(held)
    held.failures = 1
    callers = come(authenticator, "one_x", 3)
    await wait_for(lambda: len(held.asked) == 1)
    held.may.set()
    for told in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(told, Unauthenticated)
    assert (await authenticator.authenticate(bearer("one_x"))).tenant == "proj_a"
    assert len(held.asked) == 2


async def test_who_waits_for_a_verification_is_let_in_though_the_one_who_began_it_leaves() -> None:
    held = Held()
    authenticator = authenticator_of(held)
    first, *others = come(authenticator, "one_x", 3)
    await wait_for(lambda: len(held.asked) == 1)
    first.cancel()
    await wait_for(lambda: len(held.asked) == 2)
    held.may.set()
    assert {one.tenant for one in await asyncio.gather(*others)} == {"proj_a"}
    assert len(held.asked) == 2


async def test_a_token_of_no_known_form_proves_nobody() -> None:
    with pytest.raises(Unauthenticated) as refused:
        await authenticator_of(Tickets("one_")).authenticate(bearer("other_x"))
    assert refused.value.error_code == "invalid_api_key"


async def test_what_is_remembered_goes_with_the_word_of_a_revocation() -> None:
    tickets = Tickets("one_")
    authenticator = authenticator_of(tickets)
    for payload in ({"key_id": "one_x"}, {"tenant": "proj_a"}):
        await authenticator.authenticate(bearer("one_x"))
        authenticator.revocations.hear(payload)
    await authenticator.authenticate(bearer("one_x"))
    assert len(tickets.asked) == 3


async def test_what_is_watched_ends_by_what_is_stored_where_no_word_came() -> None:
    authenticator, ended = authenticator_of(Tickets("one_")), list[str]()
    for token in ("one_ended", "one_stays"):
        principal = await authenticator.authenticate(bearer(token))
        authenticator.revocations.watch(principal, lambda token=token: ended.append(token))  # type: ignore[misc] # mypy infers no default of a lambda
    await authenticator.revocations.recheck()
    assert ended == ["one_ended"]
    assert authenticator.revocations.watched == 1


async def test_who_comes_back_is_let_in_only_while_the_credential_holds() -> None:
    authenticator = authenticator_of(Tickets("one_"))
    stays = Principal("proj_a", "someone", Credential("api_key", "one_stays"), frozenset({"api"}))
    assert await authenticator.readmit(stays) is stays
    expired = replace(stays, credential=Credential("api_key", "one_stays", expires_at=1))
    for gone, code in (
        (replace(stays, credential=Credential("api_key", "one_ended")), "invalid_api_key"),
        (expired, "expired_api_key"),
    ):
        with pytest.raises(Unauthenticated) as refused:
            await authenticator.readmit(gone)
        assert refused.value.error_code == code


async def test_who_comes_back_while_the_credential_is_revoked_is_not_let_in() -> None:
    class Late(Tickets):
        """Says that all is well when asked first, and hears of the revocation right behind that."""

        async def ended(self, principals: Collection[Principal]) -> Collection[Principal]:
            self.asked.append("ended")
            authenticator.revocations.hear({"key_id": "one_x"})
            return [] if len(self.asked) == 1 else principals

    late = Late("one_")
    authenticator = authenticator_of(late)
    with pytest.raises(Unauthenticated):
        await authenticator.readmit(Principal("proj_a", "someone", Credential("api_key", "one_x"), frozenset()))
    assert len(late.asked) == 2
