"""After everything has ended nothing is left: no feed, no task, no subscription, no lease; and nothing is readable."""

import base64
import threading
from collections import Counter
from typing import Any

from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_gateway.app import create_app
from cloister_gateway.context import Context

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.redis_server import RedisServer
from tests.support.sockets import ask, opened, send, turn
from tests.support.waiting import wait_until

CANARY = "CANARY-d41d8cd98f"
STANDING = {
    *(
        "adapter-pods",
        "adapters",
        "admission",
        "batches",
        "bus",
        "bus-ping",
        "commits",
        "feeds",
        "key-usage",
        "model-pod-loads",
    ),
    *("limits-granted", "limits-renew", "limits-settle", "model-registry", "runs-sweep", "usage-ledger"),
    *("usage-ingestions", "usage-kept", "usage-pods", "watched-keys"),
}
"""The tasks of a gateway that does nothing."""


def exercise(url: str, other_url: str, gateway: GatewayFixture, llm: FakeLlm) -> list[str]:
    """Everything there is: ends of all kinds, readers that leave, sockets, chains, conversations."""
    client, other = sdk(url, gateway), sdk(other_url, gateway)
    conversation = client.conversations.create(metadata={"title": CANARY}, items=[{"role": "user", "content": CANARY}])
    made = [client.responses.create(model="fake", input=CANARY, conversation=conversation.id)]
    made.append(other.responses.create(model="fake", input=CANARY, instructions=CANARY, user=CANARY))
    made.append(client.responses.create(model="fake", input=CANARY, previous_response_id=made[1].id))
    made.append(client.responses.create(model="fake", input=CANARY, max_output_tokens=2, metadata={"a": CANARY}))
    compact = [{"type": "compaction", "compact_threshold": 1}]
    made.append(
        client.responses.create(model="fake", input=CANARY, conversation=conversation.id, context_management=compact)
    )
    assert made[-1].output[0].type == "compaction"
    client.responses.compact(model="fake", input=CANARY)
    llm.refuse_status = 400
    made.append(client.responses.create(model="fake", input=CANARY))
    llm.refuse_status = None
    llm.hold_after = 2
    made.append(client.responses.create(model="fake", input=CANARY, background=True, conversation=conversation.id))
    leaving = other.responses.retrieve(made[-1].id, stream=True)
    next(iter(leaving))
    leaving.close()
    with opened(url, gateway) as socket:
        send(socket, "conversation.subscribe", conversation_id=conversation.id)
        send(socket, "response.subscribe", response_id=made[-1].id, stream_id="x")
        assert other.responses.cancel(made[-1].id).status == "cancelled"
        llm.release()
        ask(socket, CANARY, stream_id="y", client_request_id=CANARY)
        last = turn(socket)[-1]
        while last.get("stream_id") != "y":
            last = turn(socket)[-1]
    return [*(response.id for response in made), last["response"]["id"]]


def check_idle(context: Context) -> None:
    """Waits until the gateway holds nothing of any run or socket."""
    wait_until(lambda: not context.hub.held, what="the end of all feeds")
    wait_until(lambda: set(context.supervisor.running) <= STANDING, what="the end of all tasks")
    wait_until(lambda: set(context.bus.subscribed) == {"gw:control"}, what="the last channel")
    assert context.engine.running == set()
    assert context.sockets.open == Counter()
    assert (context.admission.taken, context.admission.waiting) == (0, 0)


def test_nothing_is_left_behind_in_memory_or_in_redis(
    installed: GatewayFixture, llm: FakeLlm, redis_server: RedisServer
) -> None:
    llm.answer = [CANARY, " ", CANARY]
    apps = [create_app(installed.settings) for _ in range(2)]
    with served(apps[0]) as url, served(apps[1]) as other_url, redis_server.client() as redis:
        responses = exercise(url, other_url, installed, llm)
        for app in apps:
            check_idle(app.state.context)
        wait_until(lambda: llm.running == 0, what="the abort in the pod")
        wait_until(lambda: not redis.exists("runs:active"), what="the end of all leases")
        assert redis.keys("*:lease") == []
        assert set(redis.pubsub_channels()) == {b"gw:control"}
        kinds = Counter(
            key.decode().split(":")[0] for key in redis.keys("*") if key.decode().split(":")[0] != "identity"
        )
        assert set(kinds) == {"vault", "conv", "resp", "idem", "runs", "usage"}
        # Late readers have had their time: the streams go, the records stay.
        wait_until(lambda: set(redis.zrange("runs:ended", 0, -1)) >= {one.encode() for one in responses})
        redis.zadd("runs:ended", dict.fromkeys(redis.zrange("runs:ended", 0, -1), 1.0))
        wait_until(lambda: not redis.keys("resp:*:events"), what="the end of all streams")
        wait_until(lambda: not redis.exists("runs:ended"), what="the end of the list of streams")
        fields = {name.decode() for key in redis.keys("resp:*") for name in redis.hkeys(key)}
        assert fields == {"tenant", "created", "conversation", "stored", "background", "body", "request", "done"}
        client = sdk(url, installed)
        for response_id in responses:
            assert client.responses.retrieve(response_id).status in {"completed", "incomplete", "failed", "cancelled"}
            client.responses.delete(response_id)
        for conversation in {key.decode().split("}")[0][6:] for key in redis.keys("conv:*")}:
            client.conversations.delete(conversation)
        left = [key.decode() for key in redis.keys("conv:*")]
        assert left == []


def test_what_was_said_is_nowhere_in_redis_in_any_encoding(
    installed: GatewayFixture, llm: FakeLlm, redis_server: RedisServer
) -> None:
    llm.answer = [CANARY, " ", CANARY]
    with installed.serve() as url, installed.serve() as other_url:
        responses = exercise(url, other_url, installed, llm)
        assert CANARY in sdk(url, installed).responses.retrieve(responses[0]).output_text
    written = b"".join(path.read_bytes() for path in redis_server.folder.rglob("*") if path.is_file())
    with redis_server.client() as redis:
        written += b"".join(redis.dump(key) or b"" for key in redis.keys("*"))
    secret = CANARY.encode()
    shapes: dict[str, bytes] = {
        "raw": secret,
        "hex": secret.hex().encode(),
        "utf-16": CANARY.encode("utf-16-le"),
        **{f"base64 {n}": base64.b64encode(b"x" * n + secret)[4:-4] for n in range(3)},
    }
    assert responses[0].encode() in written
    assert [name for name, shape in shapes.items() if shape in written] == []


def test_many_runs_at_once_leave_nothing_either(installed: GatewayFixture, llm: FakeLlm) -> None:
    app = create_app(installed.settings)
    with served(app) as url:
        client = sdk(url, installed)
        finals: list[Any] = []
        threads = [
            threading.Thread(target=lambda: finals.append(client.responses.create(model="fake", input="hi")))
            for _ in range(24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [final.status for final in finals] == ["completed"] * 24
        check_idle(app.state.context)
