"""Lists of administration go on: over records that are damaged, and from a cursor whose record was deleted."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.integration.gateway.conftest import Installation
from tests.support.gateway import GatewayFixture

FIELDS = {
    "project": ("name", "created_at"),
    "account": ("name", "created_at", "project"),
    "key": ("name", "created_at", "tenant", "account", "scopes", "redacted", "mac"),
}


UNNOTICED = {("key", "mac", "garbage")}
"""What a MAC is made of cannot be told from what it is not; such a key opens nothing."""


class Admin:
    """The administration of one gateway."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __call__(self, method: str, path: str, json: Any = None, **params: Any) -> Any:
        answer = self._client.request(method, path, json=json, params=params)
        assert answer.status_code == 200, (method, path, answer.text)
        return answer.json()

    def listed(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """All of a list, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            page = self("GET", path, limit=50, **params)
            found += page["data"]
            if not page["has_more"]:
                return found
            params["after"] = page["last_id"]


@pytest.fixture
def admin(gateway: GatewayFixture, gateway_url: str) -> Iterator[Admin]:
    headers = dict(gateway.headers(gateway.admin_key))
    with httpx.Client(base_url=f"{gateway_url}/v1/organization", headers=headers, timeout=30) as client:
        yield Admin(client)


@pytest.fixture
def redis(installation: Installation) -> Iterator[Redis]:
    with installation.redis.client() as client:
        yield client


def made(admin: Admin, keys: int = 3) -> tuple[str, list[str], list[str]]:
    """A project with so many accounts, each with a key."""
    project = admin("POST", "/projects", {"name": "p"})["id"]
    accounts = [admin("POST", f"/projects/{project}/service_accounts", {"name": f"a{n}"}) for n in range(keys)]
    return project, [account["id"] for account in accounts], [account["api_key"]["id"] for account in accounts]


DAMAGE = [(kind, field, how) for kind, fields in FIELDS.items() for field in fields for how in ("gone", "garbage")]


@pytest.mark.parametrize(("kind", "field", "damage"), [one for one in DAMAGE if one not in UNNOTICED])
def test_a_damaged_record_is_listed_as_such_beside_the_others(
    kind: str, field: str, damage: str, admin: Admin, redis: Redis
) -> None:
    project, accounts, keys = made(admin)
    path, victim = {
        "project": ("/projects", project),
        "account": (f"/projects/{project}/service_accounts", accounts[1]),
        "key": (f"/projects/{project}/api_keys", keys[1]),
    }[kind]
    before = admin.listed(path)
    record = f"identity:{kind}:{victim}"
    if damage == "gone":
        redis.hdel(record, field)
    else:
        redis.hset(record, field, b"\xff\xfe")
    after = admin.listed(path)
    assert [one["id"] for one in after] == [one["id"] for one in before]
    damaged = {one["id"] for one in after if "status_details" in one} - {
        one["id"] for one in before if "status_details" in one
    }
    assert damaged == {victim}
    assert admin("GET", f"{path}/{victim}")["status_details"]


def test_a_damaged_key_and_account_can_still_be_taken_away(admin: Admin, redis: Redis) -> None:
    project, accounts, keys = made(admin)
    redis.delete(f"identity:key:{keys[0]}", f"identity:account:{accounts[0]}")
    redis.set(f"identity:account:{accounts[1]}", "not a hash")
    admin("DELETE", f"/projects/{project}/api_keys/{keys[0]}")
    for account in accounts[:2]:
        admin("DELETE", f"/projects/{project}/service_accounts/{account}")
    assert [one["id"] for one in admin.listed(f"/projects/{project}/service_accounts")] == accounts[2:]
    assert [one["id"] for one in admin.listed(f"/projects/{project}/api_keys")] == keys[2:]


def test_a_project_whose_name_is_damaged_gets_another(admin: Admin, redis: Redis) -> None:
    project, _, _ = made(admin)
    redis.hset(f"identity:project:{project}", "name", b"garbage")
    assert "status_details" not in admin("POST", f"/projects/{project}", {"name": "again"})
    assert admin("GET", f"/projects/{project}")["name"] == "again"


def test_deleting_while_listing_goes_on(admin: Admin) -> None:
    project, accounts, keys = made(admin, 5)
    projects = [made(admin, 0)[0] for _ in range(5)]
    for path, wanted, method, suffix in (
        (f"/projects/{project}/api_keys", keys, "DELETE", ""),
        (f"/projects/{project}/service_accounts", accounts, "DELETE", ""),
        ("/projects", projects, "POST", "/archive"),
    ):
        after, met = None, []
        while True:
            page = admin("GET", path, limit=2, **({"after": after} if after else {}))
            for one in page["data"]:
                if one["id"] in wanted:
                    admin(method, f"{path}/{one['id']}{suffix}")
                    met.append(one["id"])
            after = page["last_id"]
            if not page["has_more"]:
                break
        assert met == wanted
        assert not {one["id"] for one in admin.listed(path)} & set(wanted)
