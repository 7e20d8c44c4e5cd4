"""The trial's process: compiles the schemas on stdin, under limits, and says on stdout which of them cannot be.

stdout is the line `READY`, from which on what happens is the schemas' doing, and then JSON: null, or the index of the
first schema that does not compile and why. The limits are the kernel's, since a compiler that hangs hears nothing
else: it ends by a signal, and the schema with it.
"""

import json
import resource
import signal
import sys
from typing import Any

__all__ = ["MODULE", "READY", "main"]

MODULE = "cloister_llm.guard.trial"
READY = b"ready\n"

_MEMORY_BYTES = 1024**3
_LONGEST_REASON = 300


def main() -> None:
    """Tries what stdin asks for: ``{"seconds": of processor time, "schemas": […]}``."""
    import llguidance  # Here, since only the trial's process pays for it, and before the limits begin.

    request = json.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    sys.stdout.buffer.write(json.dumps(_first_fault(llguidance.LLMatcher, request["schemas"])).encode())


def _first_fault(matcher: Any, schemas: list[Any]) -> list[Any] | None:
    for index, schema in enumerate(schemas):
        reason = _fault(matcher, json.dumps(schema))
        if reason:
            return [index, " ".join(reason.split())[:_LONGEST_REASON]]
    return None


def _fault(matcher: Any, schema: str) -> str:
    """Why vLLM would refuse the schema: the calls are those of its ``validate_guidance_grammar``."""
    try:
        grammar = matcher.grammar_from_json_schema(schema)
    except ValueError as error:
        return str(error)
    return str(matcher.validate_grammar(grammar, None))


if __name__ == "__main__":
    main()
