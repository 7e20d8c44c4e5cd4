"""``python -m cloister_embedder --config FILE``."""

from cloister_common.serve import main

from cloister_embedder.app import create_app
from cloister_embedder.settings import EmbedderSettings

if __name__ == "__main__":
    main("embedder", EmbedderSettings, create_app)
