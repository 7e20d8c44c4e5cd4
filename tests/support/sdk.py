"""The official SDK's clients in tests, which end with whoever holds them."""

import weakref

import openai

__all__ = ["closing"]


def closing(client: openai.OpenAI) -> openai.OpenAI:
    """``client``, whose connections are closed once nobody holds it.

    It would close them itself, were it not part of a cycle: the garbage collector may come to its sockets before it
    comes to it, and what they warn of then fails the test that happens to run, or the session at its end.
    """
    weakref.finalize(client, client._client.close)
    return client
