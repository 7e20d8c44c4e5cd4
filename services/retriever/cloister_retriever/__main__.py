"""``python -m cloister_retriever --config FILE``."""

from cloister_common.serve import main

from cloister_retriever.app import create_app
from cloister_retriever.settings import RetrieverSettings

if __name__ == "__main__":
    main("retriever", RetrieverSettings, create_app)
