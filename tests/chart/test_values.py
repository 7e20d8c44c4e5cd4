"""Every value is explained, has its place in the schema, and does something."""

import base64
import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import yaml
from cryptography import x509

from deploy.helm.values import Value, documented, readme
from tests.support.helm import CHART, Refused, Rendered, render

TEXT = (CHART / "values.yaml").read_text()
VALUES = documented(TEXT)
LEAVES = [value for value in VALUES if value.leaf]
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def label(value: Value) -> str:
    return ".".join(value.path)


def test_every_value_has_a_sentence() -> None:
    keys = set(_keys(yaml.safe_load(TEXT)))
    assert keys == {value.path for value in VALUES}
    for value in VALUES:
        assert re.search(r"[.!]$", value.sentence), f"{label(value)} has no sentence above it"


def test_readme_has_the_table_of_these_values() -> None:
    assert (CHART / "README.md").read_text() == readme(), "run make docs"


def test_schema_knows_every_value_and_forbids_others() -> None:
    for value in VALUES:
        schema = SCHEMA
        for name in value.path:
            schema = _resolved(schema)["properties"][name]
    for path, schema in _objects(SCHEMA):
        open_on_purpose = {"nodeSelector", "affinity", "podSelector", "namespaceSelector", "global"}
        if "properties" in schema and path[-1:] != ("additionalProperties",):
            assert schema["additionalProperties"] is False, path
        elif path[-1] not in open_on_purpose | {"items", "additionalProperties"}:
            assert isinstance(schema.get("additionalProperties"), dict) or "$ref" in schema, path


def _keys(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in tree.items():
        yield (*path, name)
        if isinstance(value, dict) and name != "resources":
            yield from _keys(value, (*path, name))


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    resolved: dict[str, Any] = SCHEMA["$defs"][reference.rpartition("/")[2]] if reference else schema
    return resolved


def _objects(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for name, part in schema.items():
            yield from _objects(part, (*path, name))


NEW: dict[str, Any] = {
    "nameOverride": "other",
    "fullnameOverride": "other",
    "clusterDomain": "example.internal",
    "listenAddress": "::",
    "logLevel": "debug",
    "image.pullPolicy": "Always",
    "image.pullSecrets": ["other"],
    "gateway.origins": ["https://other.example"],
    "llm.discovery.kind": "kubernetes",
    "llm.modelDefaults.adapters.rank": 64,
    "llm.modelDefaults.adapters.s3.url": "s3://other",
    "llm.modelDefaults.adapters.s3.endpoint": "https://other",
    "llm.modelDefaults.mode": "serverless",
    "llm.modelDefaults.waking.sleepLevel": 2,
    "llm.modelDefaults.temperature": 0.5,
    "llm.modelDefaults.topP": 0.5,
    "llm.modelDefaults.projects": ["proj_other"],
    "tls.issuer": "chart",
    "tls.certManager.issuerRef.kind": "Issuer",
    "gateway.config": {"redis": {"connections": 7}},
    "embedder.config": {"queue": {"interactive_texts": 7}},
    "retriever.config": {"ingestion": {"workers": 7}},
    "llm.modelDefaults.config": {"engine": {"nice": 7}},
    "gateway.service.type": "NodePort",
    "gateway.route.kind": "TLSRoute",
    "gateway.route.timeout": "9s",
    "redis.external.url": "rediss://other:6379",
    "redis.external.sentinel.urls": ["rediss://other:26379"],
    "redis.external.cluster.urls": ["rediss://other:6379"],
    "redis.maxMemory": "1gb",
    "milvus.external.uri": "https://other:19530",
    "blobs.type": "volume",
    "blobs.volume.accessMode": "ReadWriteOnce",
    "blobs.s3.url": "s3://other",
    "blobs.s3.endpoint": "https://other",
    "retriever.embeddingModel": "other",
    "embedder.models": {"other": {"folder": "other", "kind": "image"}},
    "llm.models": {"other": {"name": "other", "weights": {"folder": "other"}}},
    "llm.modelDefaults.image.digest": f"sha256:{'1' * 64}",
}
"""Another value for those of which no rule below gives one."""


def other(value: Value) -> Any:
    """A value that the schema accepts and that is not the default."""
    name, default = value.path[-1], value.default
    if label(value) in NEW:
        return NEW[label(value)]
    if name == "digest":
        return f"sha256:{'1' * 64}"
    if name in {"size", "tmpSize", "sharedMemory"}:
        return "7Gi"
    if name in {"peers", "clientsFrom", "metricsFrom"}:
        return [{"podSelector": {"matchLabels": {"other": "other"}}}]
    if name == "ports":
        return [7]
    if name == "resources":
        return {"requests": {"cpu": "7"}, "limits": {"memory": "7Gi"}}
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 7
    if isinstance(default, str):
        return "other"
    if isinstance(default, list):
        return (
            [{"key": "other"}] if name == "tolerations" else [{"name": "other"}] if name == "parentRefs" else ["other"]
        )
    return {"other": "other"}


def settled(rendered: Rendered) -> str:
    """What a render comes to, without what is random or the time of day."""
    objects = copy.deepcopy(list(rendered.objects))
    for item in objects:
        if item["kind"] == "Secret":
            item["data"] = sorted({**item.get("data", {}), **item.get("stringData", {})})
            item.pop("stringData", None)
            item["metadata"].get("annotations", {}).pop("cloister/renew-after", None)
        if item["kind"] == "ConfigMap" and "ca.crt" in item["data"]:
            item["data"] = ["ca.crt"]
    return json.dumps(objects, sort_keys=True)


def differs(start: str, values: Mapping[str, Any]) -> bool:
    """Whether the values change what a start renders to. A rule that refuses them is a use of them too."""
    profile, under = STARTS[start]
    try:
        return settled(render(profile, values=merged(under, values))) != base(start)
    except Refused as refused:
        if "specifications of the schema" in str(refused):
            raise
        return True


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {path[0]: nested(path[1:], value) if path[1:] else value}


BARE = {"llm": {"modelDefaults": {"name": "bare", "weights": {"folder": "bare"}}, "models": {"bare": {}}}}
"""A model that says nothing itself, so that every default of models shows."""


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {**under, **over}
    return {
        name: merged(under[name], both[name]) if isinstance(under.get(name), dict) and name in over else both[name]
        for name in both
    }


SENTINELS = {
    "urls": ["rediss://sentinel:26379"],
    "service": "chat",
    "username": "watcher",
    "passwordSecret": {"name": "sentinels"},
}
BUCKET = {
    "url": "s3://adapters",
    "endpoint": "https://objects.example.internal",
    "credentialsSecret": {"name": "adapters"},
    "caSecret": {"name": "objects-ca"},
    "peers": [{"ipBlock": {"cidr": "192.0.2.2/32"}}],
}
STARTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{profile: (profile, BARE) for profile in ("everything", "production", "quickstart")},
    "sentinels": (
        "production",
        merged(BARE, {"redis": {"external": {"url": "", "ports": [6379, 26379], "sentinel": SENTINELS}}}),
    ),
    "watching": (
        "production",
        merged(
            BARE,
            {
                "llm": {
                    "discovery": {"kind": "kubernetes", "peers": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]},
                    "modelDefaults": {"adapters": {"claim": "adapters"}},
                }
            },
        ),
    ),
    "bucket": ("production", merged(BARE, {"llm": {"modelDefaults": {"adapters": {"s3": BUCKET}}}})),
    "serverless": (
        "production",
        merged(
            BARE,
            {
                "llm": {
                    "discovery": {"kind": "kubernetes", "peers": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]},
                    "modelDefaults": {"mode": "serverless"},
                }
            },
        ),
    ),
    "sleep": (
        "production",
        merged(BARE, {"llm": {"modelDefaults": {"mode": "sleep", "gpus": 1, "image": {"repository": "llm-cuda"}}}}),
    ),
}
"""What a value is tried on: a profile, and values of its own."""


@cache
def base(start: str) -> str:
    profile, under = STARTS[start]
    return settled(render(profile, values=under))


@pytest.mark.parametrize("value", [value for value in LEAVES if value.path[:2] != ("tls", "chartIssuer")], ids=label)
def test_value_does_something(value: Value) -> None:
    changed = nested(value.path, other(value))
    if not any(differs(start, changed) for start in STARTS):
        pytest.fail(f"{label(value)} changes nothing wherever it is tried")


def test_life_of_certificates_is_as_the_values_say() -> None:
    rendered = render("quickstart", values={"tls": {"chartIssuer": {"days": 30, "caDays": 300}}})
    for name, days in {"cloister-ca": 300, "cloister-gateway-tls": 30}.items():
        pem = base64.b64decode(rendered.one("Secret", name)["data"]["tls.crt"])
        certificate = x509.load_pem_x509_certificate(pem)
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == days


def test_certificates_name_their_hosts_and_are_signed_by_the_ca() -> None:
    rendered = render("everything")
    ca = x509.load_pem_x509_certificate(base64.b64decode(rendered.one("Secret", "cloister-ca")["data"]["tls.crt"]))
    assert (
        rendered.one("ConfigMap", "cloister-ca")["data"]["ca.crt"].encode().strip()
        == base64.b64decode(rendered.one("Secret", "cloister-gateway-tls")["data"]["ca.crt"]).strip()
    )
    wanted = {
        "gateway": {"cloister-gateway.chat.svc.cluster.local", "localhost", "chat.example.internal"},
        "llm-gpu": {"*.cloister-llm-gpu.chat.svc.cluster.local", "cloister-llm-gpu.chat.svc.cluster.local"},
        "redis": {"cloister-redis.chat.svc.cluster.local", "localhost"},
        "milvus": {"cloister-milvus.chat.svc.cluster.local"},
    }
    for part, names in wanted.items():
        data = rendered.one("Secret", f"cloister-{part}-tls")["data"]
        certificate = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
        certificate.verify_directly_issued_by(ca)
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names <= set(alternatives.get_values_for_type(x509.DNSName))
