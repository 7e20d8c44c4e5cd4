"""Unpacks the quick start's models while the models image is built: ``python -m unpack FOLDER``."""

import sys
from pathlib import Path

from deploy.local.models import CHAT_MODEL, EMBEDDING_MODEL, ensure


def main() -> None:
    """Unpacks both models under the folder named on the command line, readable by any user."""
    target = Path(sys.argv[1])
    for model in (CHAT_MODEL, EMBEDDING_MODEL):
        ensure(model, target, print)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
