"""``python -m cloister_retriever --config FILE``."""

import logging

from cloister_common.serve import main

from cloister_retriever.app import create_app
from cloister_retriever.settings import RetrieverSettings

if __name__ == "__main__":
    # pymilvus logs every failed call with a stack trace and its filter; our own line says it in one.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    main("retriever", RetrieverSettings, create_app)
