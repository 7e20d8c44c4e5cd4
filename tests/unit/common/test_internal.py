"""Internal tokens and the tenant header: who may call, and for whom."""

import pytest
from cloister_common.errors import InvalidRequest, Unauthenticated
from cloister_common.internal import TENANT_HEADER, InternalTokens, tenant_of
from starlette.requests import Request

OLD, NEW = b"o" * 64, b"n" * 64


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


def test_rotation_accepts_old_and_new_and_sends_the_first() -> None:
    tokens = InternalTokens([NEW, OLD])
    assert tokens.headers("tenant-a") == {"authorization": f"Bearer {NEW.decode()}", TENANT_HEADER: "tenant-a"}
    assert tokens.headers() == {"authorization": f"Bearer {NEW.decode()}"}
    for token in (OLD, NEW):
        tokens.require(request(authorization=f"Bearer {token.decode()}"))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {NEW.decode()}",
        NEW.decode(),
        f"Bearer {NEW.decode()} ",
        "Bearer \xe9",
        "Bearer n",
    ],
)
def test_anything_else_is_refused(value: str) -> None:
    tokens = InternalTokens([NEW])
    assert not tokens.accepts(value)
    assert not tokens.accepts(value.encode("latin-1"))
    with pytest.raises(Unauthenticated):
        tokens.require(request(authorization=value))


def test_missing_header_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        InternalTokens([NEW]).require(request())
    assert not InternalTokens([NEW]).accepts(None)


def test_callee_without_tokens_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least one"):
        InternalTokens([])


@pytest.mark.parametrize("tenant", ["tenant-a", "proj_0f3e", "A1"])
def test_tenant_is_read_from_its_header(tenant: str) -> None:
    assert tenant_of(request(**{TENANT_HEADER: tenant})) == tenant


@pytest.mark.parametrize("tenant", ["", " ", "a/b", "a:b", "a b", "../x", "x" * 129, "\xe9", "a*"])
def test_tenant_that_is_no_id_is_refused(tenant: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        tenant_of(request(**{TENANT_HEADER: tenant}))
    assert refused.value.param == TENANT_HEADER
