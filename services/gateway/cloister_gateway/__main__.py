"""Command line of the gateway: serves by default; ``bootstrap`` and ``keys`` administer an installation, and
``plan-usage`` needs none."""

import sys

from cloister_gateway.commands import COMMANDS, open_directory, run
from cloister_gateway.planning import command as plan_usage


def _main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        sys.exit(run(sys.argv[1:]))
    if len(sys.argv) > 1 and sys.argv[1] == plan_usage.COMMAND:
        sys.exit(plan_usage.run(sys.argv[2:], open_directory))
    # Only serving needs the application, which takes a second to import.
    from cloister_common.serve import main

    from cloister_gateway.app import create_app
    from cloister_gateway.settings import GatewaySettings

    main("gateway", GatewaySettings, create_app)


if __name__ == "__main__":
    _main()
