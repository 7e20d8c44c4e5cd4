"""From the launcher's start until vLLM serves: who answers meanwhile, and how far the model is."""
