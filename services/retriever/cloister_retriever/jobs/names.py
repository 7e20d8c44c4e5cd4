"""What the name of a job in the queue says: when it was put, whose it is, how large its file is, what it is about.

So a worker that looks for its next job reads no more than names, however many there are. Of a tenant there is a part of
an HMAC, and of the size its magnitude, which the object store sees of the file anyway.
"""

from functools import lru_cache
from typing import NamedTuple

from cloister_retriever.identifiers import ATTACHMENT_PREFIX

__all__ = ["JobName"]

_BYTES_A_SECOND = 128 * 1024
_LONGEST_SECONDS = 600.0
"""Of a tenant's files small ones come first: one counts as put so much later as its length takes at this pace, and ten
minutes at most. Whatever was put ten minutes after the largest file comes after it."""

_SMALL_BITS = 18
"""A file of less than 256 KiB is small: a letter, a page with its fonts. There are turns kept for such."""


class JobName(NamedTuple):
    """A name's parts.

    Attributes:
        put_ns: When the job was put, in nanoseconds since the epoch.
        share: Whose it is: a name for the tenant. Jobs of the first version have one together, the empty one.
        bits: Its file has less than two to the power of this bytes; None if that is not known.
        about: The attachment it is about; empty if the name does not say.
    """

    put_ns: int
    share: str
    bits: int | None
    about: str

    @classmethod
    def made(cls, put_ns: int, share: str, size: int, about: str) -> "JobName":
        """For a file of ``size`` bytes, or a job that takes no longer than one."""
        return cls(put_ns, share, size.bit_length(), about)

    @staticmethod
    def read(name: str) -> "JobName":
        """The parts of a name, also of one that the versions before made: those say less."""
        return _read(name)

    def __str__(self) -> str:
        return f"{self.put_ns:019d}-{self.share}-{self.bits or 0:02d}-{self.about}"

    @property
    def is_small(self) -> bool:
        """Whether it may have the turn that is kept for small files."""
        return self.bits is not None and self.bits <= _SMALL_BITS

    @property
    def reads_file(self) -> bool:
        """Whether a file is to be read, as far as the name says: a job that removes or copies is about none."""
        return self.about.startswith(ATTACHMENT_PREFIX)

    @property
    def due(self) -> float:
        """Of one tenant's jobs the least comes first: seconds since the epoch, later for a larger file."""
        return self.put_ns / 10**9 + min((1 << (self.bits or 0)) / _BYTES_A_SECOND, _LONGEST_SECONDS)


@lru_cache(maxsize=20_000)
def _read(name: str) -> JobName:
    put, *rest = name.split("-")
    put_ns = int(put) if put.isdecimal() else 0
    if len(rest) == 3 and rest[1].isdecimal():
        return JobName(put_ns, rest[0], int(rest[1]), rest[2])
    return JobName(put_ns, rest[0] if len(rest) == 2 else "", None, "")
