"""Command line: ``python -m cloister_llm [serve] --config FILE`` and ``python -m cloister_llm plan --model DIR``."""

import argparse
import sys
from pathlib import Path

from cloister_common.logs import configure_logging
from cloister_common.settings import SettingsError, load_settings

from cloister_llm.launcher import launch
from cloister_llm.plan import DoesNotFit, PlanError
from cloister_llm.planner import add_options, make_plan
from cloister_llm.settings import LlmSettings


def main(words: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = _parser().parse_args(_with_command(sys.argv[1:] if words is None else words))
    try:
        if arguments.command == "plan":
            sys.stdout.write(make_plan(arguments))
            return 0
        settings = load_settings(LlmSettings, arguments.config)
        configure_logging(service="llm", level=settings.log.level)
        launch(settings, arguments.config)
    except (SettingsError, PlanError, DoesNotFit) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _with_command(words: list[str]) -> list[str]:
    """``serve`` may be left out, as every other service has no commands."""
    return words if words[:1] in (["serve"], ["plan"], ["-h"], ["--help"]) else ["serve", *words]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloister_llm", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="start vLLM (the default)")
    serve.add_argument("--config", type=Path, required=True, help="the settings file (YAML)")
    add_options(commands.add_parser("plan", help="what fits where, how fast it is, and the settings for it"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
