"""Revocations that come at the worst moment."""

from dataclasses import replace
from typing import Any

import pytest
from cloister_common.errors import Unauthenticated
from cloister_common.supervisor import Supervisor
from cloister_gateway.identity import tokens
from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.records import Credential

PEPPER = b"pepper"


async def test_a_key_that_is_revoked_while_it_is_verified_is_not_let_in() -> None:
    key = tokens.mint()
    bare = Credential(key.id, b"", "project", "proj_a", frozenset({"api"}))
    record = replace(bare, mac=tokens.digest(PEPPER, key, *bare.grant))

    class Store:
        """Has the key until it was read once: its revocation comes right behind that."""

        asked = 0

        async def credential(self, key_id: str) -> Credential | None:
            self.asked += 1
            return record if self.asked == 1 else None

        async def project_is_active(self, project_id: str) -> bool:
            authenticator._on_control({"key_id": key.id})
            return True

    store: Any = Store()
    control: Any = None
    authenticator = Authenticator(store, [PEPPER], control, Supervisor())
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate({"authorization": f"Bearer {key.token}"})
    assert store.asked == 2
