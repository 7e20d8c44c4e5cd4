"""OpenAI's WebSocket mode at ``/v1/responses``, and our additions to it."""
