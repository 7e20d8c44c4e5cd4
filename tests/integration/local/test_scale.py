"""A part that rests is started and stopped by the gateway's own client of the Kubernetes API."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from cloister_common.testing.serving import free_port
from cloister_gateway.models.cluster import ClusterError, open_cluster
from cloister_gateway.models.waking.records import Workload

from deploy.local import scale
from deploy.local.process import Watchdog
from deploy.local.scale import ScaleApi, kubeconfig
from tests.integration.local.test_runner import DEADLINE_SECONDS, Run, alive, part, watchdog
from tests.support.waiting import until

__all__ = ["watchdog"]

TOKEN = "t" * 64
MODEL = Workload(scale.NAMESPACE, "statefulsets", "model")


async def test_a_part_that_rests_runs_while_it_is_wanted(tmp_path: Path, watchdog: Watchdog) -> None:
    run = Run(tmp_path, watchdog, [part(tmp_path, "store"), replace(part(tmp_path, "model"), rests=True)])
    port = free_port()
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig(port, TOKEN))
    running = asyncio.create_task(run.runner.run())
    serving = asyncio.create_task(ScaleApi({"model"}, lambda: run.runner, port, TOKEN).serve())
    # The stack is ready without it.
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    async with open_cluster(file) as cluster:

        async def pods() -> tuple[int, int]:
            try:
                found = await cluster.scale(MODEL)
            except ClusterError:
                return -1, -1  # It does not listen yet.
            return found.wanted, found.there

        async def rests() -> bool:
            return await pods() == (0, 0)

        await until(rests)
        for _ in range(2):
            begun = await cluster.rescale(MODEL, 1, (await cluster.scale(MODEL)).version)
            await until(lambda: run.record()["model"]["ready"] == 1, seconds=DEADLINE_SECONDS)
            pid = run.pid("model")
            assert await pods() == (1, 1)
            with pytest.raises(ClusterError, match="409"):
                await cluster.rescale(MODEL, 0, str(int(begun.version) - 1))
            await cluster.rescale(MODEL, 0, begun.version)
            await until(rests, seconds=DEADLINE_SECONDS)
            assert not alive(pid)
        # Killed while it is wanted, it begins again like any other.
        await cluster.rescale(MODEL, 1, (await cluster.scale(MODEL)).version)
        await until(lambda: run.record()["model"]["ready"] == 1, seconds=DEADLINE_SECONDS)
        first = run.pid("model")
        os.kill(first, signal.SIGKILL)
        await until(lambda: run.pid("model") not in (None, first), seconds=DEADLINE_SECONDS)
        with pytest.raises(ClusterError, match="404"):
            await cluster.scale(replace(MODEL, name="store"))
    file.write_text(kubeconfig(port, "another"))
    async with open_cluster(file) as stranger:
        with pytest.raises(ClusterError, match="401"):
            await stranger.scale(MODEL)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, DEADLINE_SECONDS)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
