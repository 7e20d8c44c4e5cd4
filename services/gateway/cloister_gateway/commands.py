"""What operators run beside a serving gateway: ``bootstrap``, and ``keys create|list|revoke``.

    python -m cloister_gateway bootstrap --config FILE [--format env|text]
    python -m cloister_gateway keys create --config FILE (--admin | --project ID) [--name N] [--scope S]… [--days D]
    python -m cloister_gateway keys list --config FILE [--project ID]
    python -m cloister_gateway keys revoke --config FILE KEY_ID

They need the gateway's own settings and secrets, and speak to Redis directly: who can read the root key and the
pepper needs no administration key. A key's value is printed once, when it is made.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cloister_common.errors import CloisterError, NotFound
from cloister_common.logs import configure_logging
from cloister_common.settings import SettingsError, load_settings, read_secret_lines
from cloister_common.supervisor import Supervisor

from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.bus.sharded import make_bus
from cloister_gateway.identity.keys import ApiKeys, IssuedKey
from cloister_gateway.identity.projects import Projects
from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.identity.seals import Seals
from cloister_gateway.identity.store import IdentityStore
from cloister_gateway.organization.service import Directory
from cloister_gateway.settings import GatewaySettings
from cloister_gateway.storage.opening import open_storage

__all__ = ["COMMANDS", "open_directory", "run"]

COMMANDS = ("bootstrap", "keys")

_DAY_SECONDS = 24 * 3600


def run(arguments: Sequence[str]) -> int:
    """Runs one command; gives the exit code. What goes wrong is one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(GatewaySettings, options.config)
        # Standard output is for the keys alone.
        configure_logging(service="gateway", level="error", stream=sys.stderr)
        asyncio.run(_run(options, settings))
    except (SettingsError, CloisterError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


@asynccontextmanager
async def open_directory(settings: GatewaySettings) -> AsyncIterator[Directory]:
    """Only what administers keys, so that a command starts at once: no service behind the gateway needs to be there.

    Raises:
        SettingsError: As `cloister_gateway.context.open_context`, of which this is a small part.
    """
    peppers = read_secret_lines(settings.identity.pepper_file, what="the pepper of the API keys")
    async with open_storage(settings.redis, settings.vault) as (redis, keyring):
        # Never started: it only tells the gateways that serve.
        announcements = Announcements(make_bus(settings.redis, redis, Supervisor()))
        identity = IdentityStore(redis, Seals(keyring))
        await identity.rights.adopt()
        yield Directory(Projects(identity, announcements), ApiKeys(identity, peppers[0], announcements))


async def _run(options: argparse.Namespace, settings: GatewaySettings) -> None:
    async with open_directory(settings) as directory:
        if options.command == "bootstrap":
            await _bootstrap(directory, options.format)
        elif options.action == "create":
            await _create(directory, options)
        elif options.action == "list":
            await _list(directory, options.project)
        else:
            await _revoke(directory, options.key_id)


async def _bootstrap(directory: Directory, style: str) -> None:
    made = await directory.bootstrap()
    keys = {"OPENAI_API_KEY": made.project, "CLOISTER_ADMIN_KEY": made.admin}
    if style == "env":
        for name, issued in keys.items():
            _print(f"{name}={issued.token}" if issued else f"# {name}: there is one already; its value is not stored.")
        return
    for name, issued in {"Project key": made.project, "Administration key": made.admin}.items():
        _print(f"{name}: {issued.token}" if issued else f"{name}: there is one already; its value is not stored.")


async def _create(directory: Directory, options: argparse.Namespace) -> None:
    seconds = None if options.days is None else options.days * _DAY_SECONDS
    if options.admin:
        issued = await directory.create_admin_key(options.name, expires_in_seconds=seconds)
    else:
        project = await directory.active_project(options.project)
        account = await directory.create_account(project.id, options.name)
        issued = await directory.create_key(account, options.name, scopes=options.scope, expires_in_seconds=seconds)
    _print_issued(issued)


async def _list(directory: Directory, project_id: str | None) -> None:
    projects = [await directory.project(project_id)] if project_id else await directory.projects(include_archived=True)
    for project in projects:
        state = "archived" if project.archived_at is not None else "active"
        _print(f"{project.id}  {state}  {project.name}")
        for key in await directory.keys(project.id):
            _print(f"  {key.id}  {key.redacted}  {','.join(sorted(key.scopes))}  {key.name}")
    if project_id is None:
        _print("administration")
        for key in await directory.admin_keys():
            _print(f"  {key.id}  {key.redacted}  {key.name}")


async def _revoke(directory: Directory, key_id: str) -> None:
    owners = [ORGANIZATION, *(project.id for project in await directory.projects(include_archived=True))]
    for owner in owners:
        try:
            await directory.revoke_key(owner, key_id)
        except NotFound:
            continue
        _print(f"{key_id} is revoked.")
        return
    raise NotFound(f"There is no API key '{key_id}'. `keys list` shows those there are.")


def _print_issued(issued: IssuedKey) -> None:
    _print(f"{issued.record.id}")
    _print(f"{issued.token}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument("--config", type=Path, required=True, help="the gateway's settings file (YAML)")
    parser = argparse.ArgumentParser(prog="cloister_gateway")
    commands = parser.add_subparsers(dest="command", required=True)
    bootstrap = commands.add_parser("bootstrap", parents=[config], help="make the first project and keys")
    bootstrap.add_argument("--format", choices=("env", "text"), default="text")
    actions = commands.add_parser("keys", help="make, list and revoke keys").add_subparsers(
        dest="action", required=True
    )
    create = actions.add_parser("create", parents=[config], help="make a key and print it once")
    whose = create.add_mutually_exclusive_group(required=True)
    whose.add_argument("--admin", action="store_true", help="a key that administers")
    whose.add_argument("--project", metavar="ID", help="a key of this project")
    create.add_argument("--name", default="operator")
    create.add_argument("--scope", action="append", default=[], help="may be given several times")
    create.add_argument("--days", type=int, help="days until it expires")
    listing = actions.add_parser("list", parents=[config], help="list projects and keys")
    listing.add_argument("--project", metavar="ID")
    revoke = actions.add_parser("revoke", parents=[config], help="revoke a key")
    revoke.add_argument("key_id", metavar="KEY_ID")
    return parser
