"""Which pods EndpointSlices tell of."""

from typing import Any

import pytest
from cloister_gateway.models.catalog import Slices
from cloister_gateway.models.slices import pod_urls

from tests.support.kubernetes_api import slice_of

WANTED = Slices("chat", "kubernetes.io/service-name=llm", "http")


@pytest.mark.parametrize(
    ("conditions", "counts"),
    [
        ({"ready": True}, True),
        ({"ready": True, "serving": True, "terminating": False}, True),
        ({"ready": False}, False),
        ({"ready": False, "serving": True, "terminating": True}, False),
        # Where a Service publishes what is not ready, an ending pod is said to be ready all the same.
        ({"ready": True, "serving": True, "terminating": True}, False),
        ({"ready": None}, True),
        ({}, True),
        (None, True),
    ],
)
def test_a_pod_counts_when_it_is_ready_and_not_about_to_end(conditions: Any, counts: bool) -> None:
    one = slice_of("a", endpoints=[{"addresses": ["10.0.0.1"], "conditions": conditions}])
    assert pod_urls([one], WANTED) == (["http://10.0.0.1:8083"] if counts else [])


def test_a_pod_in_several_slices_and_of_two_families_is_one_pod() -> None:
    slices = [
        slice_of("a", "10.0.0.2", "10.0.0.1"),
        slice_of("b", "10.0.0.1"),
        slice_of("c", "fd00::1", "fd00::2", family="IPv6"),
        slice_of("d", "pod.example", family="FQDN"),
    ]
    assert pod_urls(slices, WANTED) == ["http://10.0.0.1:8083", "http://10.0.0.2:8083"]
    assert pod_urls(slices[2:], Slices("chat", "", None, "https")) == [
        "https://[fd00::1]:8083",
        "https://[fd00::2]:8083",
    ]


def test_the_port_is_found_by_its_name_or_is_the_only_one() -> None:
    two = [{"name": "http", "port": 1}, {"name": "metrics", "port": 2}]
    assert pod_urls([slice_of("a", "10.0.0.1", ports=two)], Slices("chat", "", "metrics")) == ["http://10.0.0.1:2"]
    assert pod_urls([slice_of("a", "10.0.0.1", ports=two)], Slices("chat", "")) == []
    assert pod_urls([slice_of("a", "10.0.0.1", ports=[{"port": 7}])], Slices("chat", "")) == ["http://10.0.0.1:7"]
    assert pod_urls([slice_of("a", "10.0.0.1", ports=None)], Slices("chat", "")) == []


def test_slices_without_endpoints_have_no_pods() -> None:
    assert pod_urls([slice_of("a", endpoints=None)], WANTED) == []
    assert pod_urls([slice_of("a", endpoints=[{"addresses": []}])], WANTED) == []
