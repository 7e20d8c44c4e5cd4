"""Which history policy holds for a project, and that what the version before has set still opens."""

from typing import Any

import pytest
from cloister_common.vault import Keyring, encode_context, seal
from cloister_gateway.history_settings import HistorySettings
from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.limits.granted import GrantedLimits
from cloister_gateway.limits.history import HistoryPolicies
from cloister_gateway.limits.rules import Granted, HistoryPolicy
from cloister_gateway.storage import DamagedError
from cloister_gateway.storage.layout import LIMITS, LIMITS_SET
from pydantic import ValidationError
from redis.asyncio import Redis


class Unheard:
    """Nobody hears of changes: there is one gateway."""

    async def publish(self, kind: str, payload: dict[str, Any]) -> None:
        return


@pytest.fixture
async def granted(redis: Redis, keyring: Keyring) -> GrantedLimits:
    await redis.delete(LIMITS_SET)
    unheard: Any = Unheard()
    return GrantedLimits(redis, keyring, unheard, lambda: None)


async def test_what_an_administrator_set_goes_before_the_projects_setting_and_that_before_the_common_one(
    granted: GrantedLimits,
) -> None:
    settings = {"policy": "budget", "tokens": 4000, "projects": {"proj_a": {"policy": "summary", "tokens": 900}}}
    policies = HistoryPolicies(HistorySettings.model_validate(settings), granted)
    assert policies.of("proj_b") == HistoryPolicy("budget", 4000, 400)
    assert policies.of("proj_a") == HistoryPolicy("summary", 900, 400)
    await policies.set("proj_a", HistoryPolicy("budget", 100, 16))
    assert policies.of("proj_a") == HistoryPolicy("budget", 100, 16)
    await policies.set("proj_a", None)
    assert policies.of("proj_a") == HistoryPolicy("summary", 900, 400)
    assert not granted


async def test_limits_that_were_set_before_there_were_policies_open(
    granted: GrantedLimits, redis: Redis, keyring: Keyring
) -> None:
    key = (await keyring.obtain(ORGANIZATION, LIMITS, ORGANIZATION)).subkey("granted")
    written: Any = seal(key, b'{"models":{"m":{"tokens/minute":5}},"spend":500}', encode_context("limits-granted", "p"))
    await redis.hset(LIMITS_SET, "p", written)
    await granted.load()
    assert granted.of("p") == Granted({"m": {"tokens/minute": 5}}, 500)
    policies = HistoryPolicies(HistorySettings(), granted)
    assert policies.of("p") == HistoryPolicy()
    await policies.set("p", HistoryPolicy("budget", 100))
    assert granted.of("p") == Granted({"m": {"tokens/minute": 5}}, 500, history=HistoryPolicy("budget", 100))


async def test_where_what_was_set_is_damaged_nobody_guesses(granted: GrantedLimits, redis: Redis) -> None:
    await redis.hset(LIMITS_SET, "p", b"not what was written")
    await granted.load()
    with pytest.raises(DamagedError):
        HistoryPolicies(HistorySettings(), granted).of("p")


@pytest.mark.parametrize("wrong", [{"policy": "budget"}, {"policy": "summary"}, {"tokens": 100}, {"policy": "none"}])
def test_a_policy_that_bounds_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HistorySettings.model_validate(wrong)
    with pytest.raises(ValidationError):
        HistorySettings.model_validate({"projects": {"proj_a": wrong}})
