"""Rights that ended stay ended, whatever is put back into Redis, taken out of it, or stems from an earlier version."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from cloister_gateway.identity import tokens
from redis import Redis

from tests.support.gateway import GatewayFixture
from tests.support.redis_server import RedisServer

ORGANIZATION = "/v1/organization"


class Key(NamedTuple):
    """A key with all that says where it is."""

    project: str
    id: str
    token: str

    @property
    def path(self) -> str:
        """Where it is administered."""
        return f"{ORGANIZATION}/projects/{self.project}/api_keys/{self.id}"

    @property
    def record(self) -> str:
        """Its name in Redis."""
        return f"identity:key:{self.id}"


def call(url: str, key: str, path: str = "/v1/models", *, method: str = "GET", json: Any = None) -> httpx.Response:
    return httpx.request(method, f"{url}{path}", headers={"authorization": f"Bearer {key}"}, json=json, timeout=30)


def new_key(url: str, admin_key: str) -> Key:
    """A key of a new project."""
    project = call(url, admin_key, f"{ORGANIZATION}/projects", method="POST", json={"name": "p"}).json()["id"]
    path = f"{ORGANIZATION}/projects/{project}/service_accounts"
    made = call(url, admin_key, path, method="POST", json={"name": "bot"}).json()["api_key"]
    return Key(project, made["id"], made["value"])


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    """Who can write to the store."""
    with redis_server.client() as client:
        yield client


def test_a_revoked_key_opens_nothing_when_its_record_is_put_back(
    fresh_gateway: GatewayFixture, fresh_url: str, redis: Redis
) -> None:
    admin = call(
        fresh_url, fresh_gateway.admin_key, f"{ORGANIZATION}/admin_api_keys", method="POST", json={"name": "b"}
    )
    made = admin.json()
    key = new_key(fresh_url, fresh_gateway.admin_key)
    for name, token, path in (
        (key.record, key.token, key.path),
        (f"identity:key:{made['id']}", made["value"], f"{ORGANIZATION}/admin_api_keys/{made['id']}"),
    ):
        opens = "/v1/models" if path == key.path else f"{ORGANIZATION}/projects"
        assert call(fresh_url, token, opens).status_code == 200
        kept: Any = redis.dump(name)
        assert call(fresh_url, fresh_gateway.admin_key, path, method="DELETE").status_code == 200
        redis.restore(name, 0, kept)
        assert call(fresh_url, token, opens).status_code == 401
        with fresh_gateway.serve() as begun_since:
            assert call(begun_since, token, opens).status_code == 401
        assert call(fresh_url, fresh_gateway.admin_key, path).status_code == 404


def test_an_archived_project_stays_so_when_the_word_of_it_is_taken_away(
    fresh_gateway: GatewayFixture, fresh_url: str, redis: Redis
) -> None:
    key = new_key(fresh_url, fresh_gateway.admin_key)
    project = f"{ORGANIZATION}/projects/{key.project}"
    archived = call(fresh_url, fresh_gateway.admin_key, f"{project}/archive", method="POST").json()["archived_at"]
    redis.hdel(f"identity:project:{key.project}", "archived_at")
    with fresh_gateway.serve() as url:
        assert call(url, key.token).json()["error"]["code"] == "project_archived"
        assert call(url, fresh_gateway.admin_key, project).json()["archived_at"] == archived
        assert call(url, fresh_gateway.admin_key, project, method="POST", json={"name": "new"}).status_code == 409


@pytest.mark.parametrize("how", ["deleted", "another's", "not ours"])
def test_without_its_rights_a_project_is_closed(how: str, fresh_gateway: GatewayFixture, redis: Redis) -> None:
    with fresh_gateway.serve() as url:
        key, other = (new_key(url, fresh_gateway.admin_key) for _ in range(2))
    name = f"identity:rights:{key.project}"
    if how == "deleted":
        redis.delete(name)
    else:
        redis.copy(f"identity:rights:{other.project}", name, replace=True)
    if how == "not ours":
        redis.set(name, b"nothing that was sealed")
    with fresh_gateway.serve() as url:
        assert call(url, key.token).status_code == 401
        assert call(url, other.token).status_code == 200
        if how == "deleted":
            found = call(url, fresh_gateway.admin_key, f"{ORGANIZATION}/projects/{key.project}").json()
            assert found["status"] == "archived"


def as_an_earlier_version_wrote_it(redis: Redis, gateway: GatewayFixture, *keys: str) -> None:
    """Turns all of identity into the form that had an index of keys and no rights; ``keys`` are all there are."""
    pepper = gateway.settings.identity.pepper_file.read_text(encoding="utf-8").encode()
    for token in keys:
        key = tokens.parse(token)
        assert key is not None
        fields: Any = redis.hgetall(f"identity:key:{key.id}")
        parts = [fields.get(name, b"").decode() for name in (b"kind", b"tenant", b"scopes", b"expires_at")]
        redis.hset(f"identity:key:{key.id}", "mac", tokens.digest(pepper, key, *parts))
        redis.zadd(f"identity:keys:{parts[1] or 'organization'}", {key.id: int(fields[b"created_at"])})
    without_rights(redis)


def without_rights(redis: Redis) -> None:
    names: Any = redis.keys("identity:rights:*")
    redis.delete(*names)


def test_keys_of_an_earlier_version_open_and_end_as_others_do(fresh_gateway: GatewayFixture, redis: Redis) -> None:
    with fresh_gateway.serve() as url:
        living, ended, archived = (new_key(url, fresh_gateway.admin_key) for _ in range(3))
        call(url, fresh_gateway.admin_key, f"{ORGANIZATION}/projects/{archived.project}/archive", method="POST")
    tokens_of_all = (fresh_gateway.project_key, fresh_gateway.admin_key, living.token, ended.token, archived.token)
    as_an_earlier_version_wrote_it(redis, fresh_gateway, *tokens_of_all)
    with fresh_gateway.serve() as url:
        assert call(url, living.token).status_code == 200
        assert call(url, fresh_gateway.admin_key, living.path).status_code == 200
        assert call(url, archived.token).json()["error"]["code"] == "project_archived"
        kept: Any = redis.dump(ended.record)
        assert call(url, fresh_gateway.admin_key, ended.path, method="DELETE").status_code == 200
        redis.restore(ended.record, 0, kept)
        redis.zadd(f"identity:keys:{ended.project}", {ended.id: 1})
        assert call(url, ended.token).status_code == 401
    # What was adopted once is not adopted again, also if a part of what says so is missing.
    for missing in ([], [f"identity:rights:{ended.project}"], ["identity:rights:organization", "identity:projects"]):
        if missing:
            redis.delete(*missing)
        with fresh_gateway.serve() as url:
            assert call(url, ended.token).status_code == 401
            assert call(url, living.token).status_code == 200


def test_a_key_of_this_version_is_never_taken_for_one_of_an_earlier_version(
    fresh_gateway: GatewayFixture, redis: Redis
) -> None:
    with fresh_gateway.serve() as url:
        key = new_key(url, fresh_gateway.admin_key)
        kept: Any = redis.dump(key.record)
        call(url, fresh_gateway.admin_key, key.path, method="DELETE")
    redis.restore(key.record, 0, kept)
    redis.zadd(f"identity:keys:{key.project}", {key.id: 1})
    without_rights(redis)
    with fresh_gateway.serve() as url:
        assert call(url, key.token).status_code == 401


def test_rights_outlive_the_peppers_that_keys_were_made_under(fresh_gateway: GatewayFixture) -> None:
    file = fresh_gateway.settings.identity.pepper_file
    first = file.read_text(encoding="utf-8").strip()
    with fresh_gateway.serve() as url:
        old = new_key(url, fresh_gateway.admin_key)
    second = "f" * 64
    file.write_text(f"{second}\n{first}\n", encoding="utf-8")
    with fresh_gateway.serve() as url:
        assert call(url, old.token).status_code == 200
        accounts = f"{ORGANIZATION}/projects/{old.project}/service_accounts"
        new = call(url, fresh_gateway.admin_key, accounts, method="POST", json={"name": "b"}).json()["api_key"]["value"]
    file.write_text(f"{second}\n", encoding="utf-8")
    with fresh_gateway.serve() as url:
        assert [call(url, token).status_code for token in (old.token, new)] == [401, 200]


def test_who_can_write_to_the_store_makes_no_key_anybody_elses(
    fresh_gateway: GatewayFixture, fresh_url: str, redis: Redis
) -> None:
    admin = fresh_gateway.admin_key
    project = call(fresh_url, admin, f"{ORGANIZATION}/projects", method="POST", json={"name": "p"}).json()["id"]
    path = f"{ORGANIZATION}/projects/{project}/service_accounts"
    anna, ben, nobody = (
        Key(project, made["id"], made["value"])
        for holder in ({"user": "anna"}, {"user": "ben", "groups": ["hr"]}, {})
        for made in [call(fresh_url, admin, path, method="POST", json={"name": "n", **holder}).json()["api_key"]]
    )
    assert [call(fresh_url, key.token).status_code for key in (anna, ben, nobody)] == [200, 200, 200]
    holder = redis.hget(anna.record, "holder")
    assert isinstance(holder, bytes)
    assert b"anna" not in holder
    for key, field in ((ben, holder), (nobody, holder), (anna, None), (anna, b"anything")):
        before: Any = redis.dump(key.record)
        if field is None:
            redis.hdel(key.record, "holder")
        else:
            redis.hset(key.record, "holder", field)
        with fresh_gateway.serve() as begun_since:
            assert call(begun_since, key.token).status_code == 401
        redis.restore(key.record, 0, before, replace=True)
        assert call(fresh_url, key.token).status_code == 200
