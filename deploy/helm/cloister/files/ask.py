"""What `helm test` asks: one document in, one question about it over the WebSocket, one answer that cites it.

Runs in the gateway's image with the unmodified OpenAI SDK. Makes a project of its own and removes all of it again.
"""

import argparse
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx2
from openai import OpenAI
from openai.types.responses import Response

if TYPE_CHECKING:
    from openai.types.websocket_connection_options import SyncWebSocketConnectionOptions

DOCUMENT = b"The ferry to Hestholm leaves at 06:45 from pier nine.\n"
QUESTION = "When does the ferry to Hestholm leave?"
"""One sentence, since a small model that says more says what is not in the document, which is then not cited."""

READY_SECONDS = 240
INGEST_SECONDS = 180
ANSWER_SECONDS = 240


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--ca-file", type=Path)
    parser.add_argument("--server-name", help="the name in the certificate, where it is not the host's")
    return parser.parse_args()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def wait_until_ready(http: httpx2.Client, url: str) -> None:
    """Waits until the gateway finds every part ready; ends the process with what is not."""
    until = time.monotonic() + READY_SECONDS
    reason = ""
    while time.monotonic() < until:
        try:
            response = http.get(f"{url}/readyz")
        except httpx2.TransportError as error:
            reason = str(error)
        else:
            if response.status_code == 200:
                return
            reason = response.text
        time.sleep(2)
    sys.exit(f"Not ready after {READY_SECONDS} s: {reason}")


@contextmanager
def connected(options: argparse.Namespace) -> Iterator[OpenAI]:
    """The SDK with the administration key, over TLS that is checked against the chart's CA or the system's."""
    given = options.ca_file if options.ca_file and options.ca_file.exists() else None
    context = ssl.create_default_context(cafile=given)

    def name(request: httpx2.Request) -> None:
        if options.server_name:
            request.extensions["sni_hostname"] = options.server_name

    with httpx2.Client(verify=context, trust_env=False, timeout=60, event_hooks={"request": [name]}) as http:
        wait_until_ready(http, options.url)
        admin = options.key_file.read_text().split()[-1]
        yield OpenAI(api_key=admin, admin_api_key=admin, base_url=f"{options.url}/v1", http_client=http)


def ingest(client: OpenAI) -> tuple[str, str]:
    """Uploads the document and waits until it can be searched. Gives the ids of file and store."""
    file = client.files.create(file=("timetable.md", DOCUMENT), purpose="assistants")
    store = client.vector_stores.create(name="helm test")
    client.vector_stores.files.create(store.id, file_id=file.id)
    until = time.monotonic() + INGEST_SECONDS
    while time.monotonic() < until:
        state = client.vector_stores.files.retrieve(file.id, vector_store_id=store.id)
        if state.status == "completed":
            return file.id, store.id
        if state.status != "in_progress":
            sys.exit(f"The document was not ingested: {state.status} {state.last_error}")
        time.sleep(1)
    sys.exit(f"The document was still being ingested after {INGEST_SECONDS} s.")


def cited_files(response: Response) -> set[str]:
    """The ids of the files that an answer cites."""
    messages = [item for item in response.output if item.type == "message"]
    texts = [part for message in messages for part in message.content if part.type == "output_text"]
    return {note.file_id for text in texts for note in text.annotations if note.type == "file_citation"}


def ask(client: OpenAI, model: str, store: str, options: argparse.Namespace) -> tuple[str, set[str]]:
    """Asks over the WebSocket. Gives the answer and the ids of the files it cites."""
    tls: dict[str, Any] = {}
    if options.url.startswith("https:"):
        given = options.ca_file if options.ca_file and options.ca_file.exists() else None
        tls["ssl"] = ssl.create_default_context(cafile=given)
        if options.server_name:
            tls["server_hostname"] = options.server_name
    with client.responses.connect(
        websocket_connection_options=cast("SyncWebSocketConnectionOptions", tls)
    ) as connection:
        connection.response.create(
            model=model,
            input=QUESTION,
            temperature=0,
            max_output_tokens=96,
            tools=[{"type": "file_search", "vector_store_ids": [store]}],
        )
        until = time.monotonic() + ANSWER_SECONDS
        for event in connection:
            if event.type == "response.completed":
                return event.response.output_text, cited_files(event.response)
            if event.type in {"error", "response.failed", "response.incomplete"} or time.monotonic() > until:
                sys.exit(f"No answer came: {event.to_json()}")
    sys.exit("The connection ended before the answer did.")


def check(client: OpenAI, options: argparse.Namespace) -> None:
    """The whole way, with a key of a project. Ends the process with the reason where it breaks."""
    say(f"models: {', '.join(model.id for model in client.models.list())}")
    file, store = ingest(client)
    say("the document is ingested")
    answer, cited = ask(client, options.model, store, options)
    say(f"question: {QUESTION}\nanswer: {answer}\ncited: {sorted(cited)}")
    client.vector_stores.delete(store)
    client.files.delete(file)
    if cited != {file}:
        sys.exit("The answer does not cite the document.")
    say("well")


def main() -> None:
    options = arguments()
    key_id = options.key_file.read_text().split()[0]
    with connected(options) as admin:
        organization = admin.admin.organization
        project = organization.projects.create(name="helm test")
        try:
            account = organization.projects.service_accounts.create(project.id, name="helm test")
            if account.api_key is None:
                sys.exit("The service account came without an API key.")
            check(admin.with_options(api_key=account.api_key.value), options)
        finally:
            organization.projects.archive(project.id)
            organization.admin_api_keys.delete(key_id)


if __name__ == "__main__":
    main()
