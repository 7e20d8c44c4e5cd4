"""What a chat completion used, as its bytes say it."""

from cloister_gateway.chat.tally import read_answer, read_block
from cloister_gateway.usage import Used

TOKEN = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\\"usage\\":{\\"prompt_tokens\\":9"}}]}\n\n'
LAST = (
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":8}}}\n\ndata: [DONE]\n\n'
)


def test_stream_that_says_its_usage_is_exact() -> None:
    used = Used()
    for block in (TOKEN, TOKEN + TOKEN, TOKEN + LAST):
        read_block(used, block)
    assert used == Used(prompt=12, cached=8, output=3, exact=True)


def test_stream_that_does_not_is_counted_in_events() -> None:
    used = Used()
    for block in (TOKEN, TOKEN + TOKEN + b"data: [DONE]\n\n"):
        read_block(used, block)
    assert used == Used(output=3, exact=False)


def test_answer_says_what_it_used_wherever_that_stands_in_it() -> None:
    used = Used()
    read_answer(
        used,
        b'{"choices":[{"message":{"content":"\\"usage\\":{"}}],"usage":{"prompt_tokens":5,"total_tokens":7,'
        b'"completion_tokens":2,"prompt_tokens_details":null},"prompt_logprobs":null}',
    )
    assert used == Used(prompt=5, output=2, exact=True)
    read_answer(used, b"{}")
    assert not used.exact
