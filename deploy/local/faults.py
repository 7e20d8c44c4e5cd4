"""The errors of the local runner. Each is one sentence for the person at the terminal.

LocalFault              exit code 1   a part failed while it started or ran
└── NotReadyToStart     exit code 2   something must be mended first; nothing was started
"""

from typing import ClassVar

__all__ = ["LocalFault", "NotReadyToStart"]


class LocalFault(Exception):
    """The run ends with this sentence."""

    exit_code: ClassVar[int] = 1


class NotReadyToStart(LocalFault):
    """The machine or the settings are not such that a start could succeed."""

    exit_code = 2
