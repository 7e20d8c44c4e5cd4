"""Command line of the gateway: serves by default; ``bootstrap`` and ``keys`` administer an installation."""

from cloister_common.serve import main

from cloister_gateway.app import create_app
from cloister_gateway.settings import GatewaySettings

if __name__ == "__main__":
    main("gateway", GatewaySettings, create_app)
