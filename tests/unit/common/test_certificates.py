"""A certificate renewed the way Kubernetes renews a mounted Secret: by turning a link, again and again."""

import ssl
from pathlib import Path

import anyio
import anyio.lowlevel
from cloister_common.certificates import watch_certificate
from cloister_common.settings import ServerTls


class Context:
    """Stands in for an SSL context: notes what it was given, and refuses half a pair."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.refused = 0

    def load_cert_chain(self, certificate: Path, key: Path) -> None:
        if certificate.read_text() != key.read_text():
            self.refused += 1
            raise ssl.SSLError("key values mismatch")
        self.loaded.append(certificate.read_text())


def renew(folder: Path, name: str) -> None:
    """A new directory of files, the link turned to it at once, the old directory gone."""
    new, link = folder / f"..{name}", folder / "..data"
    old = link.resolve() if link.exists() else None
    new.mkdir()
    for file in ("tls.crt", "tls.key"):
        (new / file).write_text(name)
    (folder / "turning").symlink_to(new.name)
    (folder / "turning").rename(link)
    if old is not None:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


async def test_every_renewal_is_followed(tmp_path: Path) -> None:
    renew(tmp_path, "first")
    for file in ("tls.crt", "tls.key"):
        (tmp_path / file).symlink_to(f"..data/{file}")
    tls = ServerTls(certificate_file=tmp_path / "tls.crt", key_file=tmp_path / "tls.key")
    context = Context()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: watch_certificate(context, tls, every=0.01))
        for name in ("second", "third", "fourth"):
            await anyio.lowlevel.checkpoint()  # the watch takes its first look
            renew(tmp_path, name)
            with anyio.fail_after(5):
                while context.loaded[-1:] != [name]:
                    await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert context.loaded == ["second", "third", "fourth"]


async def test_half_a_pair_is_waited_out(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_text("old")
    key.write_text("old")
    context = Context()
    async with anyio.create_task_group() as group:
        tls = ServerTls(certificate_file=certificate, key_file=key)
        group.start_soon(lambda: watch_certificate(context, tls, every=0.01))
        await anyio.lowlevel.checkpoint()  # the watch takes its first look
        certificate.write_text("new")
        with anyio.fail_after(5):
            while not context.refused:
                await anyio.sleep(0.01)
        assert context.loaded == []
        key.write_text("new")
        with anyio.fail_after(5):
            while not context.loaded:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert set(context.loaded) == {"new"}
