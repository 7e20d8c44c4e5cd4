"""Keys over HTTP: what opens, what does not, and how fast a revocation holds everywhere."""

import threading
from typing import Any

import httpx
import openai
import pytest
from cloister_gateway.app import create_app
from cloister_gateway.identity.principal import Credential, Principal

from tests.support.gateway import GatewayFixture
from tests.support.redis_server import RedisServer
from tests.support.sdk import closing
from tests.support.waiting import wait_until

REVOCATION_SECONDS = 2.0


def admin(url: str, gateway: GatewayFixture) -> openai.OpenAI:
    return closing(
        openai.OpenAI(base_url=f"{url}/v1", api_key="unused", admin_api_key=gateway.admin_key, max_retries=0)
    )


def status(url: str, key: str, path: str = "/v1/models") -> int:
    return httpx.get(f"{url}{path}", headers={"authorization": f"Bearer {key}"}).status_code


def test_openai_sdk_administers_projects_accounts_and_keys(fresh_gateway: GatewayFixture, fresh_url: str) -> None:
    with admin(fresh_url, fresh_gateway) as client:
        organization = client.admin.organization
        project = organization.projects.create(name="Research")
        assert project.status == "active"
        assert organization.projects.retrieve(project.id).name == "Research"
        renamed = organization.projects.update(project_id=project.id, name="Legal")
        assert renamed.name == "Legal"
        assert [found.name for found in organization.projects.list(limit=1)] == ["default", "Legal"]

        account = organization.projects.service_accounts.create(project.id, name="bot")
        assert account.api_key is not None
        assert status(fresh_url, account.api_key.value) == 200
        second = organization.projects.service_accounts.api_keys.create(
            account.id, project_id=project.id, name="second", scopes=["embeddings"], expires_in_seconds=3600
        )
        keys = list(organization.projects.api_keys.list(project.id, limit=1))
        assert [key.id for key in keys] == [account.api_key.id, second.id]
        assert keys[0].owner.service_account is not None
        assert keys[0].owner.service_account.id == account.id
        assert account.api_key.value not in keys[0].redacted_value
        assert organization.projects.api_keys.retrieve(second.id, project_id=project.id).expires_at is not None

        assert organization.projects.api_keys.delete(second.id, project_id=project.id).deleted
        assert organization.projects.service_accounts.retrieve(account.id, project_id=project.id).name == "bot"
        assert [found.id for found in organization.projects.service_accounts.list(project.id)] == [account.id]
        assert organization.projects.service_accounts.delete(account.id, project_id=project.id).deleted
        assert list(organization.projects.api_keys.list(project.id)) == []

        key = organization.admin_api_keys.create(name="second admin")
        assert status(fresh_url, key.value, "/v1/organization/projects") == 200
        assert len(list(organization.admin_api_keys.list(limit=1, order="desc"))) == 2
        assert organization.admin_api_keys.retrieve(key.id).name == "second admin"
        assert organization.admin_api_keys.delete(key.id).deleted
        assert organization.projects.archive(project.id).status == "archived"
        assert [found.id for found in organization.projects.list()].count(project.id) == 0


def test_revoked_key_stops_working_on_every_gateway_within_two_seconds(gateway: GatewayFixture) -> None:
    with gateway.serve() as first, gateway.serve() as second, admin(first, gateway) as client:
        project = client.admin.organization.projects.create(name="p")
        made = client.admin.organization.projects.service_accounts.create(project.id, name="bot").api_key
        assert made is not None
        assert [status(url, made.value) for url in (first, second)] == [200, 200]
        client.admin.organization.projects.api_keys.delete(made.id, project_id=project.id)
        assert status(first, made.value) == 401
        wait_until(lambda: status(second, made.value) == 401, seconds=REVOCATION_SECONDS)


def test_archiving_a_project_ends_its_keys_on_every_gateway(gateway: GatewayFixture) -> None:
    with gateway.serve() as first, gateway.serve() as second, admin(first, gateway) as client:
        project = client.admin.organization.projects.create(name="p")
        made = client.admin.organization.projects.service_accounts.create(project.id, name="bot").api_key
        assert made is not None
        assert status(second, made.value) == 200
        client.admin.organization.projects.archive(project.id)
        wait_until(lambda: status(second, made.value) == 401, seconds=REVOCATION_SECONDS)
        with pytest.raises(openai.ConflictError):
            client.admin.organization.projects.service_accounts.create(project.id, name="late")


def test_revocation_calls_what_watches_the_key_even_if_the_word_of_it_was_lost(
    fresh_gateway: GatewayFixture, redis_server: RedisServer
) -> None:
    from cloister_common.testing.serving import served

    app = create_app(fresh_gateway.settings)
    with served(app) as watching, fresh_gateway.serve() as other, admin(other, fresh_gateway) as client:
        project = client.admin.organization.projects.create(name="p")
        made = client.admin.organization.projects.service_accounts.create(project.id, name="bot").api_key
        assert made is not None
        assert status(watching, made.value) == 200
        revocations = app.state.context.authenticator.revocations
        closed = threading.Event()
        principal = Principal(project.id, "bot", Credential("api_key", made.id), frozenset({"api"}))
        revocations.watch(principal, closed.set)
        redis_server.kill()
        with redis_server.apart() as redis:
            assert redis.delete(f"identity:key:{made.id}") == 1
        redis_server.start()
        wait_until(closed.is_set, seconds=10, what="the watch ends after the reconnect")


@pytest.mark.parametrize(
    "forged",
    [
        {"kind": "admin", "tenant": "", "scopes": "admin"},
        {"scopes": "api"},
        {"tenant": "proj_0"},
        {"expires_at": "9999999999"},
    ],
    ids=lambda fields: "+".join(fields),
)
def test_who_writes_to_redis_cannot_give_a_key_more(
    fresh_gateway: GatewayFixture, fresh_url: str, redis_server: RedisServer, forged: dict[str, str]
) -> None:
    with admin(fresh_url, fresh_gateway) as client:
        project = client.admin.organization.projects.create(name="p")
        account = client.admin.organization.projects.service_accounts.create(project.id, name="bot")
        narrow = client.admin.organization.projects.service_accounts.api_keys.create(
            account.id, project_id=project.id, scopes=["models"], expires_in_seconds=3600
        )
    assert status(fresh_url, narrow.value) == 200
    with redis_server.client() as redis:
        redis.hset("identity:project:proj_0", "created_at", "1")
        redis.hset(f"identity:key:{narrow.id}", mapping=forged)
    wait_until(lambda: status(fresh_url, narrow.value) == 401, seconds=REVOCATION_SECONDS)


def test_expired_key_is_refused(gateway: GatewayFixture, gateway_url: str) -> None:
    with admin(gateway_url, gateway) as client:
        project = client.admin.organization.projects.create(name="p")
        account = client.admin.organization.projects.service_accounts.create(
            project.id, name="bot", expires_in_seconds=1
        )
    assert account.api_key is not None
    key = account.api_key.value
    wait_until(lambda: status(gateway_url, key) == 401)
    body = httpx.get(f"{gateway_url}/v1/models", headers={"authorization": f"Bearer {key}"}).json()
    assert body["error"]["code"] == "expired_api_key"


def test_project_key_cannot_administer_and_admin_key_cannot_use_models(
    gateway: GatewayFixture, gateway_url: str
) -> None:
    assert status(gateway_url, gateway.project_key, "/v1/organization/projects") == 403
    response = httpx.get(f"{gateway_url}/v1/models", headers=gateway.headers(gateway.admin_key))
    assert response.status_code == 403
    assert "key of a project" in response.json()["error"]["message"]


def test_key_without_the_scope_is_refused_by_name(gateway: GatewayFixture, gateway_url: str) -> None:
    with admin(gateway_url, gateway) as client:
        project = client.admin.organization.projects.create(name="p")
        account = client.admin.organization.projects.service_accounts.create(project.id, name="bot")
        narrow = client.admin.organization.projects.service_accounts.api_keys.create(
            account.id, project_id=project.id, scopes=["embeddings"]
        )
        with pytest.raises(openai.BadRequestError, match="Unknown scope 'root'"):
            client.admin.organization.projects.service_accounts.api_keys.create(
                account.id, project_id=project.id, scopes=["root"]
            )
    response = httpx.get(f"{gateway_url}/v1/models", headers=gateway.headers(narrow.value))
    assert response.status_code == 403
    assert "'models'" in response.json()["error"]["message"]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer sk-123", "Basic dXNlcjpwYXNz", "Bearer clo_" + "a" * 70])
def test_anything_but_a_known_key_is_a_401_in_openai_shape(gateway_url: str, header: str) -> None:
    response = httpx.get(f"{gateway_url}/v1/models", headers={"authorization": header} if header else {})
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"
    assert response.headers["www-authenticate"] == "Bearer"


def test_no_route_answers_a_stranger_but_the_health_routes(gateway: GatewayFixture) -> None:
    app = create_app(gateway.settings)
    with gateway.serve() as url, httpx.Client(base_url=url) as client:
        open_routes = [
            (method, path)
            for path, methods in walk(app.routes)
            for method in methods
            if client.request(method, path.replace("{", "").replace("}", "")).status_code != 401
        ]
        assert client.get("/v1/no_such_thing").status_code == 401
        unknown = client.get("/v1/no_such_thing", headers=gateway.headers())
        wrong_method = client.put("/v1/models", headers=gateway.headers())
    assert sorted(open_routes) == [("GET", "/health"), ("GET", "/livez"), ("GET", "/readyz")]
    assert (unknown.status_code, unknown.json()["error"]["message"]) == (404, "Invalid URL (GET /v1/no_such_thing)")
    assert wrong_method.status_code == 405


def walk(routes: Any) -> list[tuple[str, list[str]]]:
    """Every HTTP route with its methods, also those inside included routers."""
    found: list[tuple[str, list[str]]] = []
    for route in routes:
        if getattr(route, "methods", None):
            found.append((route.path, sorted(set(route.methods) - {"HEAD"})))
        elif hasattr(route, "routes"):
            found += walk(route.routes)
    return found


def test_stored_identity_holds_no_name_and_no_key_in_the_clear(
    fresh_gateway: GatewayFixture, fresh_url: str, redis_server: RedisServer
) -> None:
    with admin(fresh_url, fresh_gateway) as client:
        project = client.admin.organization.projects.create(name="Merger Falcon")
        made = client.admin.organization.projects.service_accounts.create(project.id, name="Falcon bot").api_key
    assert made is not None
    raw = b"".join(path.read_bytes() for path in redis_server.folder.rglob("*.aof"))
    assert project.id.encode() in raw
    assert b"Falcon" not in raw
    assert made.value.split("_")[2].encode() not in raw
