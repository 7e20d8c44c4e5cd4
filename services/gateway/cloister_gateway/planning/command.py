"""``python -m cloister_gateway plan-usage``: plans from guesses, on any machine, for an offer or an order of hardware.

    python -m cloister_gateway plan-usage --users 500 [--set conversation.turns=12]… [--question FILE]
        [--model-plan FILE] [--svg FILE] [--json]
    python -m cloister_gateway plan-usage --ledger --config FILE [--model NAME] [--set price.gpu_hour=2.1]…
        [--model-plan FILE] [--svg FILE] [--json]

``--question`` is a YAML or JSON file with the body of ``POST /cloister/v1/plans/usage``; ``--model-plan`` what
``cloister_llm plan --json`` printed, whose first plan that fits says what a pod can do; ``--set`` comes last.
``--ledger`` plans from what an installation used in the last thirty days: ``--config`` is its gateway's, and Redis is
read directly, as ``keys`` does.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cloister_common.errors import CloisterError
from cloister_common.logs import configure_logging
from cloister_common.settings import SettingsError, load_settings
from pydantic import ValidationError

from cloister_gateway.organization.service import Directory
from cloister_gateway.planning.observed import Observed, ObservedQuestion, observe, observed_json, observed_lines
from cloister_gateway.planning.picture import draw
from cloister_gateway.planning.plan import plan_json, plan_usage
from cloister_gateway.planning.question import UsageQuestion
from cloister_gateway.planning.report import describe
from cloister_gateway.settings import GatewaySettings
from cloister_gateway.storage.opening import open_storage
from cloister_gateway.usage.queries import Bucket, Query, UsageQueries
from cloister_gateway.usage.store import UsageStore
from cloister_gateway.wire.strict import Strict

__all__ = ["COMMAND", "run"]

COMMAND = "plan-usage"


class _NotPlannedError(Exception):
    """What was given does not make a question; the message says what to do."""


_Asked = TypeVar("_Asked", bound=Strict)
OpenDirectory = Callable[[GatewaySettings], AbstractAsyncContextManager[Directory]]


def run(arguments: Sequence[str], open_directory: OpenDirectory | None = None) -> int:
    """Prints the plan; gives the exit code. What goes wrong is a sentence or two on standard error.

    Args:
        arguments: The command's.
        open_directory: Opens the projects of an installation, for ``--ledger``.
    """
    options = _parser().parse_args(arguments)
    try:
        observed = asyncio.run(_observed(options, open_directory)) if options.ledger else None
        plan = plan_usage(_question(options)) if observed is None else observed.plan
        if options.svg is not None:
            options.svg.write_text(draw(plan), encoding="utf-8")
    except (_NotPlannedError, SettingsError, CloisterError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.json:
        text = json.dumps(plan_json(plan) if observed is None else observed_json(observed), indent=2)
    else:
        text = describe(plan) if observed is None else f"{observed_lines(observed)}\n\n{describe(plan)}"
    sys.stdout.write(f"{text}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"cloister_gateway {COMMAND}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int)
    parser.add_argument("--ledger", action="store_true", help="plan from what was used")
    parser.add_argument("--config", type=Path, metavar="FILE", help="of the gateway, with --ledger")
    parser.add_argument("--model", metavar="NAME", help="only what was asked of it, with --ledger")
    parser.add_argument("--question", type=Path, metavar="FILE")
    parser.add_argument("--model-plan", type=Path, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. price.gpu_hour=2.1")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a picture too")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


async def _observed(options: argparse.Namespace, open_directory: OpenDirectory | None) -> Observed:
    if options.config is None or open_directory is None:
        raise _NotPlannedError("--ledger needs the gateway's settings: --config FILE.")
    body = {**_body(options), **({} if options.model is None else {"model": options.model})}
    settings = load_settings(GatewaySettings, options.config)
    configure_logging(service="gateway", level="error", stream=sys.stderr)
    async with open_storage(settings.redis, settings.vault) as (redis, keyring), open_directory(settings) as directory:
        queries = UsageQueries(UsageStore(redis, keyring, settings.usage))

        async def buckets(query: Query) -> Sequence[Bucket]:
            found, _ = await queries.totals(query) or await queries.buckets(query, await directory.project_ids())
            return found

        return await observe(_checked(ObservedQuestion, body), buckets, int(time.time()))


def _question(options: argparse.Namespace) -> UsageQuestion:
    body = _body(options)
    if "users" not in body:
        raise _NotPlannedError("Say for how many users: --users N.")
    return _checked(UsageQuestion, body)


def _body(options: argparse.Namespace) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if options.question is not None:
        body = _read(options.question)
    if options.model_plan is not None:
        body["pod"] = {**_pod_of(_read(options.model_plan)), **body.get("pod", {})}
    if options.users is not None:
        body["users"] = options.users
    for one in options.set:
        _set(body, one)
    return body


def _checked(kind: type[_Asked], body: dict[str, Any]) -> _Asked:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, finding['loc'])) or 'question'}: {finding['msg']}" for finding in error.errors()
        )
        raise _NotPlannedError(f"The question is not right. {said}.") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _NotPlannedError(f"'{path}' is neither YAML nor JSON.") from error
    if not isinstance(found, dict):
        raise _NotPlannedError(f"'{path}' holds no object at its top.")
    return found


def _pod_of(plan: dict[str, Any]) -> dict[str, Any]:
    """What ``cloister_llm plan --json`` says of one pod."""
    for candidate in plan.get("plans", []):
        if candidate.get("fits") and candidate.get("estimate"):
            estimate = candidate["estimate"]
            streams = int(estimate["streams"])
            alone = float(estimate["one_stream"])
            return {
                "context_tokens": candidate["capacity"]["context"],
                "streams": streams,
                "one_stream": alone,
                # (Both are estimates: no stream is faster beside others.)
                "many_streams": min(max(float(estimate["many_streams"]), alone), alone * streams),
                "prompt_rate": estimate["prompt_rate"],
                "gpus": candidate["tensor_parallel"] * candidate["pipeline_parallel"],
            }
    raise _NotPlannedError("No plan in the file of --model-plan fits with an estimate: name an --accelerator there.")


def _set(body: dict[str, Any], assignment: str) -> None:
    field, equals, value = assignment.partition("=")
    if not equals:
        raise _NotPlannedError(f"--set takes FIELD=VALUE, not '{assignment}'.")
    *above, last = field.split(".")
    place = body
    for name in above:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise _NotPlannedError(f"--set {field}: '{name}' holds no fields.")
    place[last] = yaml.safe_load(value)
