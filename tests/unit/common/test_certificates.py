"""Certificates and CAs renewed the way Kubernetes renews a mounted Secret: by turning a link, again and again."""

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cloister_common.certificates import client_context, watch_certificate
from cloister_common.settings import ServerTls

from tests.support.certificates import certificate_for


class Noting(ssl.SSLContext):
    """A server's context that notes every certificate it is given."""

    def __new__(cls) -> "Noting":
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context.loaded = []
        return context

    loaded: list[str]

    def load_cert_chain(self, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        self.loaded.append(Path(certfile).read_text())
        super().load_cert_chain(certfile, keyfile, password)


def renew(folder: Path, name: str) -> str:
    """A new directory of files, the link turned to it at once, the old directory gone. Gives the new certificate."""
    new, link = folder / f"..{name}", folder / "..data"
    old = link.resolve() if link.exists() else None
    certificate, _ = certificate_for("127.0.0.1", new)
    (folder / "turning").symlink_to(new.name)
    (folder / "turning").rename(link)
    if old is not None:
        shutil.rmtree(old)
    return certificate.read_text()


async def test_every_renewal_is_followed(tmp_path: Path) -> None:
    renew(tmp_path, "first")
    for file in ("tls.crt", "tls.key"):
        (tmp_path / file).symlink_to(f"..data/{file}")
    tls = ServerTls(certificate_file=tmp_path / "tls.crt", key_file=tmp_path / "tls.key")
    context, renewed = Noting(), []
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: watch_certificate(context, tls, every=0.01))
        for name in ("second", "third", "fourth"):
            await anyio.lowlevel.checkpoint()  # the watch takes its first look
            renewed.append(renew(tmp_path, name))
            with anyio.fail_after(60):
                while context.loaded != renewed:
                    await anyio.sleep(0.01)
        group.cancel_scope.cancel()


async def test_half_a_pair_is_waited_out_and_never_touches_the_context(tmp_path: Path) -> None:
    certificate, key = certificate_for("127.0.0.1", tmp_path / "served")
    new_certificate, new_key = certificate_for("127.0.0.1", tmp_path / "renewed")
    context = Noting()
    async with anyio.create_task_group() as group:
        tls = ServerTls(certificate_file=certificate, key_file=key)
        group.start_soon(lambda: watch_certificate(context, tls, every=0.01))
        await anyio.lowlevel.checkpoint()  # the watch takes its first look
        certificate.write_text(new_certificate.read_text())
        await anyio.sleep(0.1)  # ten looks at half a pair
        assert context.loaded == []
        key.write_text(new_key.read_text())
        with anyio.fail_after(60):
            while not context.loaded:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert set(context.loaded) == {new_certificate.read_text()}


async def test_missing_files_do_not_end_the_watch(tmp_path: Path) -> None:
    certificate, key = certificate_for("127.0.0.1", tmp_path)
    context = Noting()
    async with anyio.create_task_group() as group:
        tls = ServerTls(certificate_file=certificate, key_file=key)
        group.start_soon(lambda: watch_certificate(context, tls, every=0.01))
        await anyio.lowlevel.checkpoint()  # the watch takes its first look
        certificate.unlink()
        key.unlink()
        await anyio.sleep(0.1)
        certificate_for("127.0.0.1", tmp_path)
        with anyio.fail_after(60):
            while not context.loaded:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()


async def test_client_trusts_the_authority_that_the_file_holds_now(tmp_path: Path) -> None:
    async def serve(name: str) -> asyncio.Server:
        certificate, key = certificate_for("127.0.0.1", tmp_path / name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)

    async def reached(server: asyncio.Server) -> bool:
        try:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client)
        except ssl.SSLCertVerificationError:
            return False
        writer.close()
        return True

    async with await serve("old") as old, await serve("new") as new:
        authority = tmp_path / "ca.crt"
        authority.symlink_to("old/tls.crt")
        client = client_context(authority, ssl.TLSVersion.TLSv1_3)
        assert [await reached(server) for server in (old, new)] == [True, False]
        authority.unlink()
        assert await reached(old), "what cannot be read changes nothing"
        authority.symlink_to("new/tls.crt")
        assert [await reached(server) for server in (old, new)] == [False, True]


def test_file_without_an_authority_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(ssl.SSLError):
        client_context(tmp_path / "ca.crt", ssl.TLSVersion.TLSv1_3)
