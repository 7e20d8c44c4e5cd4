"""Which pods EndpointSlices tell of. What they look like: Kubernetes API reference, EndpointSlice v1 and v1beta1.

The two are alike in all that is read here. A condition that is not given is not known, and stands for a ready one.
"""

from collections.abc import Iterable
from typing import Any

from cloister_gateway.models.catalog import Slices

__all__ = ["in_url", "pod_urls"]

_FAMILIES = ("IPv4", "IPv6")
"""A pod of two families has an address in slices of each: the first that has any is taken."""


def pod_urls(slices: Iterable[dict[str, Any]], wanted: Slices, *, ready: bool = True) -> list[str]:
    """The addresses of the pods that are ready and not about to end, in order.

    Args:
        slices: EndpointSlices, as the API gives them.
        wanted: Which port of them, and how it is spoken to.
        ready: Whether these, or those that have an address and are not ready yet.
    """
    found: dict[str, set[str]] = {family: set() for family in _FAMILIES}
    for one in slices:
        urls = found.get(one.get("addressType", ""))
        port = _port(one.get("ports") or [], wanted.port)
        if urls is None or port is None:
            continue
        for endpoint in one.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            if conditions.get("terminating") is not True and (conditions.get("ready") is not False) is ready:
                # An endpoint is one pod: what more addresses it has lead to the same one.
                for address in endpoint.get("addresses", ())[:1]:
                    urls.add(f"{wanted.scheme}://{in_url(address)}:{port}")
    return sorted(next((urls for urls in found.values() if urls), ()))


def in_url(address: str) -> str:
    """An IP address as URLs have it."""
    return f"[{address}]" if ":" in address else address


def _port(ports: list[dict[str, Any]], name: str | None) -> int | None:
    if name is None and len(ports) == 1:
        return ports[0].get("port")
    return next((port.get("port") for port in ports if (port.get("name") or "") == name), None)
