"""Making the first keys is a process of its own, and it does not outlive the run that began it."""

import asyncio
import sys
from pathlib import Path

import pytest

from deploy.local import client
from deploy.local.config import Layout
from deploy.local.settings import load_local_settings

DEADLINE_SECONDS = 60.0


async def test_a_run_that_ends_while_keys_are_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file, program = tmp_path / "pid", tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho $$ > {pid_file}.part; mv {pid_file}.part {pid_file}; exec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    making = asyncio.create_task(
        client.ensure_client_file(load_local_settings(None), Layout(tmp_path), fresh_store=True)
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not pid_file.exists():
            await asyncio.sleep(0.02)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()
    assert not (tmp_path / "client.env").exists()
