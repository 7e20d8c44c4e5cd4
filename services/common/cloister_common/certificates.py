"""Keeps a served certificate fresh: a renewed pair of files is used without a restart."""

import asyncio
import ssl
from pathlib import Path

from cloister_common.logs import get_logger
from cloister_common.settings import ServerTls

__all__ = ["watch_certificate"]

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


def _stamp(tls: ServerTls) -> tuple[int, ...]:
    """Changes when either file does. Files that cannot be read (a rename under way) count as a change."""
    return _changed(tls.certificate_file), _changed(tls.key_file)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
