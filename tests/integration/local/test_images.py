"""The images' build says what it does, and gives each build only what its Dockerfile asks for."""

import os
import subprocess
from pathlib import Path

from deploy.local.settings import REPOSITORY

BUILDER = """#!/bin/sh
[ "$1" = info ] && exit 0
echo "$@" >> {calls}
for until in $(seq 600); do grep -q still {said} && exit 0; sleep 0.1; done
exit 1
"""


def test_a_long_build_is_not_silent_and_gets_no_argument_that_nobody_asked_for(tmp_path: Path) -> None:
    calls, said, builder = tmp_path / "calls", tmp_path / "said", tmp_path / "buildah"
    builder.write_text(BUILDER.format(calls=calls, said=said))
    builder.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PIP_INDEX_URL": "https://packages.example/simple",
        "EVERY_SECONDS": "0.1",
    }
    with said.open("wb") as output:
        done = subprocess.run(
            [REPOSITORY / "deploy/images/build.sh", "redis", "gateway"], env=environment, stdout=output, check=False
        )
    assert done.returncode == 0
    lines = said.read_text().splitlines()
    heads = [line for line in lines if line.startswith("==")]
    assert [head.rsplit(" (")[1] for head in heads] == ["1 of 2)", "2 of 2)"]
    assert any("redis: still building" in line for line in lines)
    redis, gateway = calls.read_text().splitlines()
    assert "--quiet" not in redis + gateway
    assert "PIP_INDEX_URL" not in redis
    assert "--build-arg PIP_INDEX_URL=https://packages.example/simple" in gateway
