"""Command line: ``python -m cloister_llm [serve] --config FILE`` and ``python -m cloister_llm plan --model DIR``."""

import argparse
import sys
from pathlib import Path

from cloister_common.logs import configure_logging
from cloister_common.settings import SettingsError, load_settings

from cloister_llm.launcher import launch
from cloister_llm.model_folder import read_config
from cloister_llm.plan import DoesNotFit, Load, PlanError, plan_capacity, read_shape, weight_bytes
from cloister_llm.plan.capacity import GIB
from cloister_llm.plan.report import describe
from cloister_llm.settings import LlmSettings


def main(words: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = _parser().parse_args(_with_command(sys.argv[1:] if words is None else words))
    try:
        if arguments.command == "plan":
            sys.stdout.write(_plan(arguments))
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
    plan = commands.add_parser("plan", help="what fits on a machine, and the settings for it")
    plan.add_argument("--model", type=Path, required=True, help="model folder; config.json is enough")
    plan.add_argument("--name", help="public name of the model (default: the folder's name)")
    memory = plan.add_mutually_exclusive_group(required=True)
    memory.add_argument("--gpu-memory", type=float, metavar="GIB", help="memory of one GPU")
    memory.add_argument("--cpu-memory", type=float, metavar="GIB", help="memory of the machine or container")
    plan.add_argument("--gpus", type=int, default=1, help="GPUs that share the model")
    plan.add_argument("--utilization", type=float, default=0.9, help="share of a GPU's memory that is used")
    plan.add_argument("--context", type=int, metavar="TOKENS", help="longest conversation (default: what fits)")
    plan.add_argument("--conversations", type=int, metavar="N", help="of full length at once (default: what fits)")
    plan.add_argument("--dtype", default="auto", choices=["auto", "bfloat16", "float16", "float32"])
    plan.add_argument("--kv-dtype", default="auto", choices=["auto", "fp8", "fp8_e4m3", "fp8_e5m2"])
    return parser


def _plan(arguments: argparse.Namespace) -> str:
    shape = read_shape(read_config(arguments.model))
    load = Load(
        "gpu" if arguments.gpu_memory else "cpu",
        int((arguments.gpu_memory or arguments.cpu_memory) * GIB),
        devices=arguments.gpus if arguments.gpu_memory else 1,
        share=arguments.utilization,
        context=arguments.context,
        conversations=arguments.conversations,
        kv_dtype=arguments.kv_dtype,
        dtype=arguments.dtype,
    )
    capacity = plan_capacity(shape, weight_bytes(arguments.model, shape, arguments.dtype), load)
    name = arguments.name or arguments.model.resolve().name
    return describe(shape, capacity, load, name=name, path=str(arguments.model), dtype=arguments.dtype)


if __name__ == "__main__":
    sys.exit(main())
