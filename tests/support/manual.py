"""The commands of ``docs/operations/install.md``, run as they stand there."""

import os
import re
import subprocess
from pathlib import Path

from tests.support.helm import ROOT, program

__all__ = ["Manual"]

_TEXT = ROOT / "docs" / "operations" / "install.md"
_NAMESPACE = re.compile(r"((?<=-n )|(?<=namespace ))chat\b")
_BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Manual:
    """An operator with the manual, a shell and an empty folder.

    Args:
        namespace: Where the manual says ``chat``, so that nobody's own installation is touched.
        folder: Where the files that the commands write come to lie.
    """

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self.folder = folder
        for name in ("deploy", "docs"):
            (folder / name).symlink_to(ROOT / name)

    def blocks(self, section: int) -> list[str]:
        """The commands of a section, block by block."""
        (text,) = re.findall(rf"^## {section}\. (.*?)(?=^## |\Z)", _TEXT.read_text(), re.MULTILINE | re.DOTALL)
        return [_NAMESPACE.sub(self.namespace, block) for block in _BLOCK.findall(text)]

    def follow(self, *blocks: str, seconds: float = 960.0) -> str:
        """Types the blocks into one shell and returns what was printed.

        Raises:
            AssertionError: A command did not end well; the message has all that was printed.
        """
        script = "\n".join(["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *blocks])
        tools = {str(program(name).parent) for name in ("helm", "kubectl")}
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env={**os.environ, "PATH": ":".join([*tools, os.environ["PATH"]])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout
