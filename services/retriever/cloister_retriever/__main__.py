"""``python -m cloister_retriever --config FILE``."""

import os


def keep_arithmetic_in_one_thread() -> None:
    """Has OpenBLAS start no threads of its own. To be called before numpy is imported.

    Every file is parsed in a process of its own, and OpenBLAS ends its threads whenever a process is forked. If they
    were at work for a rotation in that moment, whoever forks waits for ever; and that is the event loop.
    """
    os.environ["OPENBLAS_NUM_THREADS"] = "1"


def main() -> None:
    """Runs the service."""
    keep_arithmetic_in_one_thread()
    from cloister_common.serve import main as serve

    from cloister_retriever.app import create_app
    from cloister_retriever.settings import RetrieverSettings

    serve("retriever", RetrieverSettings, create_app)


if __name__ == "__main__":
    main()
