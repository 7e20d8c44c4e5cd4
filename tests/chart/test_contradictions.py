"""Values that cannot work together stop the rendering with what, why and the mend; their nearest neighbours render."""

from typing import Any

import pytest

from tests.support.helm import Refused, render

ADDRESSES = [{"ipBlock": {"cidr": "10.20.0.0/24"}}]


def model(**values: Any) -> dict[str, Any]:
    return {"llm": {"models": {"smollm2": values}}}


def resources(part: str, **values: Any) -> dict[str, Any]:
    return {part: {"resources": values}}


SIZES: dict[str, dict[str, Any]] = {
    "redis.maxMemory (2gb) is over half": {"redis": {"maxMemory": "2gb"}},
    "redis.maxMemory (513mb) is over half": {"redis": {"maxMemory": "513mb"}},
    "redis.maxMemory is 0kb": {"redis": {"maxMemory": "0kb"}},
    "redis.storage.size (1Gi) is under twice": {
        "redis": {"maxMemory": "600mb", "storage": {"size": "1Gi"}, "resources": {"limits": {"memory": "1.5Gi"}}}
    },
    "gateway.resources.requests.memory (2Gi) is over limits.memory (1Gi)": resources(
        "gateway", requests={"memory": "2Gi"}
    ),
    "embedder.resources.requests.cpu (1500m) is over limits.cpu (1)": resources(
        "embedder", requests={"cpu": "1500m"}, limits={"cpu": 1}
    ),
    "retriever.resources.requests.memory (1Gi) is over limits.memory (1G)": resources(
        "retriever", requests={"memory": "1Gi"}, limits={"memory": "1G"}
    ),
    "redis.resources.requests.memory (2000Mi) is over": resources("redis", requests={"memory": "2000Mi"}),
    "milvus.resources.requests.memory (2.5Gi) is over": resources("milvus", requests={"memory": "2.5Gi"}),
    "llm.models.smollm2.resources.requests.memory (7Gi) is over": model(resources={"requests": {"memory": "7Gi"}}),
    "retriever.ingest.resources.requests.memory (5Gi) is over": {
        "retriever": {"ingest": {"separate": True, "resources": {"requests": {"memory": "5Gi"}}}},
        "blobs": {"volume": {"accessMode": "ReadWriteMany"}},
    },
    "gateway.resources.limits.memory is 512m": resources("gateway", limits={"memory": "512m"}),
    "gateway.resources.limits has no memory": resources("gateway", limits={"memory": None}),
    "embedder.resources.requests.cpu is 0": resources("embedder", requests={"cpu": "0"}),
    "requests.example.com/device is not what limits": resources("embedder", requests={"example.com/device": 1}),
    "gateway.autoscaling.enabled without gateway.resources.requests.cpu": {
        "gateway": {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}
    },
    "embedder.weights.size is 0Gi": {"embedder": {"weights": {"size": "0Gi"}}},
    "llm.models.smollm2.tmpSize is 0.0Mi": model(tmpSize="0.0Mi"),
    "llm.models.smollm2.sharedMemory (6Gi) is not under": model(sharedMemory="6Gi"),
    "llm.models.smollm2.config.engine.kv_cache_gib (6,": model(config={"engine": {"kv_cache_gib": 6}}),
}

DEVICES: dict[str, dict[str, Any]] = {
    "has gpus: 1 and the image llm": model(gpus=1),
    "has gpus: 2 and the image mirror/llm": model(gpus=2, image={"repository": "mirror/llm"}),
    "has the image llm-cuda and no GPU": model(image={"repository": "llm-cuda"}),
    "resources.limits names nvidia.com/gpu": model(resources={"limits": {"nvidia.com/gpu": 1}}),
    'gpuResource is "gpu"': model(gpus=1, gpuResource="gpu", image={"repository": "llm-cuda"}),
    "kv_cache_gib is set and gpus is 1": model(gpus=1, image={"repository": "llm-cuda"}),
    "compute.device is cuda": {"embedder": {"config": {"compute": {"device": "cuda"}}}},
    "are both named all-MiniLM-L6-v2": model(name="all-MiniLM-L6-v2"),
}


def external(**values: Any) -> dict[str, Any]:
    """Values of a Redis that is not the chart's."""
    return {"redis": {"bundled": False, "external": {"peers": ADDRESSES, **values}}}


def adapters(claim: str = "", **bucket: Any) -> dict[str, Any]:
    """Values of a model whose adapters lie on a claim, or in a bucket."""
    return model(adapters={"claim": claim, "s3": bucket})


STORES: dict[str, dict[str, Any]] = {
    "redis.external.url is set while": {"redis": {"external": {"url": "rediss://redis:6379"}}},
    "redis.external.passwordSecret.name is set while": {"redis": {"external": {"passwordSecret": {"name": "mine"}}}},
    "milvus.external.uri is set while": {"milvus": {"external": {"uri": "https://milvus:19530"}}},
    "milvus.external.peers is set while": {"milvus": {"external": {"peers": ADDRESSES}}},
    "blobs.s3.url is set while": {"blobs": {"s3": {"url": "s3://bucket"}}},
    "existingClaim is set while": {
        "blobs": {
            "type": "s3",
            "volume": {"existingClaim": "mine"},
            "s3": {"url": "s3://bucket", "peers": ADDRESSES},
        }
    },
    "retriever.ingest.replicas is over 1": {"retriever": {"ingest": {"replicas": 2}}},
    "redis.external.username is set and": {
        "redis": {"bundled": False, "external": {"url": "rediss://redis", "username": "me", "peers": ADDRESSES}}
    },
    "redis.external.caSecret.name is set and": {
        "tls": {"enabled": False},
        "redis": {"bundled": False, "external": {"url": "redis://redis", "caSecret": {"name": "ca"}}},
    },
    "milvus.external.caSecret.name or serverName is set and": {
        "tls": {"enabled": False},
        "milvus": {"bundled": False, "external": {"uri": "http://milvus", "serverName": "milvus"}},
    },
    "blobs.s3.caSecret.name is set and": {
        "tls": {"enabled": False},
        "blobs": {"type": "s3", "s3": {"url": "s3://bucket", "endpoint": "http://s3", "caSecret": {"name": "ca"}}},
    },
    "accessKeyIdKey and secretAccessKeyKey are the same": {
        "blobs": {
            "type": "s3",
            "s3": {"url": "s3://bucket", "credentialsSecret": {"accessKeyIdKey": "secret-access-key"}},
        }
    },
    "redis.external has url and cluster.urls": external(url="rediss://redis", cluster={"urls": ["rediss://node:6379"]}),
    "redis.external.sentinel.urls is set and sentinel.service is empty": external(
        sentinel={"urls": ["rediss://sentinel:26379"]}
    ),
    "redis.external.sentinel.urls begins with redis:// while": external(
        sentinel={"urls": ["redis://sentinel:26379"], "service": "chat"}
    ),
    "redis.external.cluster.urls is set while redis.bundled": {
        "redis": {"external": {"cluster": {"urls": ["rediss://node:6379"]}}}
    },
    "redis.external.ports does not have 26379": external(
        sentinel={"urls": ["rediss://10.20.0.7:26379"], "service": "chat"}
    ),
    "redis.external.ports does not have 6380": {
        "redis": {"bundled": False, "external": {"url": "rediss://10.20.0.7:6380/1", "peers": ADDRESSES}}
    },
    "blobs.s3.ports does not have 9000": {
        "blobs": {
            "type": "s3",
            "s3": {"url": "s3://bucket", "endpoint": "https://s3.example.internal:9000", "peers": ADDRESSES},
        }
    },
    "adapters has a claim and s3.url": adapters(claim="mine", url="s3://bucket", peers=ADDRESSES),
    "adapters.s3.region is set and": adapters(region="here"),
    "adapters.s3.peers is empty": adapters(url="s3://bucket"),
    "adapters.s3.ports does not have 9000": adapters(
        url="s3://bucket", endpoint="https://s3.example.internal:9000", peers=ADDRESSES
    ),
    "adapters.s3.endpoint begins with http://": adapters(url="s3://bucket", endpoint="http://s3", peers=ADDRESSES),
    "adapters.s3.credentialsSecret: accessKeyIdKey and": adapters(
        url="s3://bucket", credentialsSecret={"accessKeyIdKey": "secret-access-key"}, peers=ADDRESSES
    ),
    "adapters.s3.peers opens the whole internet": adapters(
        url="s3://bucket", peers=[{"ipBlock": {"cidr": "0.0.0.0/0"}}]
    ),
}

DOORS: dict[str, dict[str, Any]] = {
    "gateway.tls.secretName is set while tls.enabled is false": {
        "tls": {"enabled": False},
        "gateway": {"tls": {"secretName": "mine"}},
    },
    "gateway.tls.extraDnsNames is set while tls.enabled is false": {
        "tls": {"enabled": False},
        "gateway": {"tls": {"extraDnsNames": ["chat.example.internal"]}},
    },
    "gateway.route.caConfigMap is set while tls.enabled is false": {
        "tls": {"enabled": False},
        "gateway": {"route": {"caConfigMap": "mine"}},
    },
    "issuerRef.name is set while tls.issuer is chart": {"tls": {"certManager": {"issuerRef": {"name": "internal"}}}},
    "redis.external.peers opens the whole internet": {
        "redis": {
            "bundled": False,
            "external": {"url": "rediss://redis", "peers": [{"ipBlock": {"cidr": "10.0.0.0/0"}}]},
        }
    },
    "gateway.tls.secretName is cloister-gateway-tls, as the chart": {
        "gateway": {"tls": {"secretName": "cloister-gateway-tls"}}
    },
}

REFUSED = {**SIZES, **DEVICES, **STORES, **DOORS}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_with_what_why_and_mend(what: str) -> None:
    with pytest.raises(Refused) as refused:
        render("quickstart", values=REFUSED[what])
    message = str(refused.value)
    assert what in message
    assert "why:" in message
    assert "mend:" in message


@pytest.mark.parametrize(
    "values",
    [
        {"redis": {"maxMemory": "512mb", "storage": {"size": "1Gi"}}},
        {"redis": {"maxMemory": "1gb", "resources": {"limits": {"memory": "2Gi"}}}},
        resources("gateway", requests={"memory": "1Gi"}, limits={"memory": "1024Mi"}),
        resources("gateway", requests={"memory": 1_000_000_000}, limits={"memory": "1G"}),
        resources("embedder", requests={"cpu": "1000m"}, limits={"cpu": 1}),
        resources("embedder", requests={"cpu": 0.5}, limits={"cpu": "500m"}),
        resources("embedder", limits={"example.com/device": 1}),
        resources("milvus", requests={"memory": "2147483648"}),
        model(gpus=1, image={"repository": "llm-cuda"}, config={"engine": {"kv_cache_gib": None}}),
        model(gpus=1, image={"repository": "vllm"}, config={"engine": {"kv_cache_gib": None}}),
        {"redis": {"bundled": False, "external": {"url": "rediss://10.20.0.7", "peers": ADDRESSES}}},
    ],
    ids=str,
)
def test_what_just_works_renders(values: dict[str, Any]) -> None:
    assert render("quickstart", values=values).objects


def test_a_service_may_lead_to_another_port_than_its_own() -> None:
    """Policies see a pod's port. Only addresses of machines must have theirs named."""
    assert render("production", values={"redis": {"external": {"url": "rediss://redis.stores.svc:443/0"}}}).objects


def test_bounds_of_parts_that_are_not_made_are_nobodys_business() -> None:
    values = {"redis": {"maxMemory": "8gb"}, "milvus": {"resources": {"requests": {"memory": "9Gi"}}}}
    assert render("production", values=values).objects


def test_a_certificate_of_the_charts_has_the_name_that_a_route_passes_through() -> None:
    route = {"enabled": True, "kind": "TLSRoute", "host": "talk.example.internal", "parentRefs": [{"name": "internal"}]}
    secret = render("quickstart", values={"gateway": {"route": route}}).one("Secret", "cloister-gateway-tls")
    assert '"talk.example.internal"' in secret["metadata"]["annotations"]["cloister/names"]
