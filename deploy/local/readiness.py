"""How the runner learns that a part is ready. Each probe returns None when it is, and the reason when it is not."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

__all__ = ["Probe", "http_probe", "port_probe", "redis_commands", "redis_probe"]

Probe = Callable[[], Awaitable[str | None]]

_ANSWER_SECONDS = 6.0


def http_probe(url: str, certificate: Path | None = None) -> Probe:
    """Asks ``url`` (a ``/readyz``) for a 200.

    Args:
        url: The address to ask.
        certificate: The certificate the server has to show, which need not be valid for the address.
    """
    # Over plain HTTP nothing is verified, and loading the system's authorities for each look would cost 30 ms of a core
    # that the parts need to start.
    verify: ssl.SSLContext | bool = False
    if certificate is not None:
        verify = ssl.create_default_context(cafile=str(certificate))
        verify.check_hostname = False
        verify.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN

    async def probe() -> str | None:
        try:
            async with httpx.AsyncClient(verify=verify, timeout=_ANSWER_SECONDS, trust_env=False) as client:
                response = await client.get(url)
        except httpx.HTTPError as error:
            return f"no answer ({type(error).__name__})"
        return None if response.status_code == 200 else _reason(response)

    return probe


def _reason(response: httpx.Response) -> str:
    """What a ``/readyz`` names as not ready."""
    try:
        parts = response.json()["parts"]
        return "; ".join(f"{name}: {state}" for name, state in parts.items() if state != "ready")
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"status {response.status_code}"


def port_probe(where: int | Path) -> Probe:
    """Connects to a port on loopback, or to a Unix socket."""

    async def probe() -> str | None:
        try:
            if isinstance(where, int):
                _, writer = await asyncio.open_connection("127.0.0.1", where)
            else:
                _, writer = await asyncio.open_unix_connection(where)
        except OSError as error:
            return f"no answer ({type(error).__name__})"
        writer.close()
        return None

    return probe


def redis_probe(port: int, password: str) -> Probe:
    """Sends PING, which Redis answers only after it has read its append-only file."""

    async def probe() -> str | None:
        answers = await redis_commands(port, password, "PING")
        return None if answers == ["+PONG"] else answers[-1]

    return probe


async def redis_commands(port: int, password: str, *commands: str) -> list[str]:
    """What a Redis on loopback answers to ``commands``, a line each, or one line that says why it did not."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write("".join(f"{line}\r\n" for line in (f"AUTH {password}", *commands)).encode())
                answers = [(await reader.readline()).decode(errors="replace").strip() for _ in (0, *commands)]
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        return [f"no answer ({type(error).__name__})"]
    return answers[1:]
