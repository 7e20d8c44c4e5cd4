"""Keeps certificates fresh on both sides: a renewed pair of files, or another CA, is used without a restart."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

from cloister_common.logs import get_logger
from cloister_common.settings import ServerTls, SettingsError

__all__ = ["client_context", "server_context", "watch_certificate"]

log = get_logger(__name__)

_CHECK_SECONDS = 10.0


async def watch_certificate(context: ssl.SSLContext, tls: ServerTls, *, every: float = _CHECK_SECONDS) -> None:
    """Loads the files of ``tls`` into ``context`` whenever they change. Runs until it is cancelled.

    It looks at the files instead of waiting for the kernel to tell: a mounted Secret is renewed by turning a link, and
    a watch on what the link pointed to hears of the first renewal only.

    Args:
        context: The server's context; connections made afterwards get the new certificate.
        tls: The files.
        every: Seconds between two looks.
    """
    seen = _stamp(tls)
    while True:
        await asyncio.sleep(every)
        now = _stamp(tls)
        if now == seen:
            continue
        try:
            # Tried on another context first: OpenSSL takes the certificate before it finds that the key is another's,
            # and a context with half a pair serves nobody.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate_file, tls.key_file)
            context.load_cert_chain(tls.certificate_file, tls.key_file)
        except (OSError, ssl.SSLError) as error:
            # Half a pair may be on disk for a moment: keep the old one and look again.
            log.error("certificate_reload_failed", reason=type(error).__name__)
            continue
        seen = now
        log.info("certificate_reloaded")


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """A server's context with the files of ``tls``.

    Raises:
        SettingsError: They cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"Cannot use the certificate {tls.certificate_file} with the key {tls.key_file}: {error}. "
            "Both must be PEM files that belong together."
        ) from error
    return context


def client_context(ca_file: Path | None, minimum: ssl.TLSVersion) -> ssl.SSLContext:
    """A client's context that trusts what ``ca_file`` holds at each new connection; without a file, the system's CAs.

    Raises:
        OSError, ssl.SSLError: The file cannot be read, or holds no CA.
    """
    return _verifying(None, minimum) if ca_file is None else _FollowingContext.made(ca_file, minimum)


class _FollowingContext(ssl.SSLContext):
    """Hands each new connection to a context with the CAs that the file holds now: an old CA is trusted no longer."""

    _ca_file: Path
    _seen: int
    _current: ssl.SSLContext

    @classmethod
    def made(cls, ca_file: Path, minimum: ssl.TLSVersion) -> "_FollowingContext":
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = minimum
        context._ca_file, context._seen = ca_file, _changed(ca_file)
        context._current = _verifying(ca_file, minimum)
        return context

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """What asyncio and uvloop call for each connection."""
        self._look()
        return self._current.wrap_bio(*arguments, **options)

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """The same for connections that block."""
        self._look()
        return self._current.wrap_socket(*arguments, **options)

    def _look(self) -> None:
        now = _changed(self._ca_file)
        if now == self._seen:
            return
        try:
            self._current = _verifying(self._ca_file, self.minimum_version)
        except (OSError, ssl.SSLError) as error:
            log.error("ca_reload_failed", reason=type(error).__name__)
            return
        self._seen = now
        log.info("ca_reloaded")


def _verifying(ca_file: Path | None, minimum: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.minimum_version = minimum
    return context


def _stamp(tls: ServerTls) -> tuple[int, ...]:
    """Changes when either file does. Files that cannot be read (a rename under way) count as a change."""
    return _changed(tls.certificate_file), _changed(tls.key_file)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
