"""Each thing that is missing before a start is one sentence that names it and the mend."""

import socket
from pathlib import Path

import pytest

from deploy.local import preflight
from deploy.local.faults import NotReadyToStart
from deploy.local.settings import LocalSettings, load_local_settings


def settings_with(tmp_path: Path, text: str) -> LocalSettings:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_local_settings(path)


# Programs that are surely there, so that each test reaches the check it is about.
PRESENT = "paths: {redis_server: sh, llm_python: /bin/sh}\n"


def test_a_missing_redis_server_says_what_to_install(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, "paths: {redis_server: no-such-redis}\n")
    with pytest.raises(NotReadyToStart, match="apt-get install redis-server"):
        preflight.check_machine(settings, tmp_path)


def test_a_missing_model_environment_says_make_install(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, "paths: {redis_server: sh, llm_python: nowhere/python}\n")
    with pytest.raises(NotReadyToStart, match="make install"):
        preflight.check_machine(settings, tmp_path)


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, PRESENT + "gateway: {certificate_file: /no/a.pem, key_file: /no/a.key}\n")
    with pytest.raises(NotReadyToStart, match=r"/no/a\.pem is missing"):
        preflight.check_machine(settings, tmp_path)


def test_too_little_memory_says_how_much_is_needed(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, PRESENT + "needs: {memory_gib: 1000000}\n")
    with pytest.raises(NotReadyToStart, match="GiB of memory are free and 1e\\+06 are needed"):
        preflight.check_machine(settings, tmp_path)


def test_too_little_disk_says_where(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, PRESENT + "needs: {memory_gib: 0, disk_gib: 1000000}\n")
    with pytest.raises(NotReadyToStart, match=f"GiB of disk are free under {tmp_path}"):
        preflight.check_machine(settings, tmp_path)


def test_a_folder_too_deep_for_a_socket_says_so(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(NotReadyToStart, match=r"too long for the socket in it .* make run VAR=DIR"):
        preflight.check_machine(settings_with(tmp_path, PRESENT + "needs: {memory_gib: 0, disk_gib: 0}\n"), deep)


def test_a_port_in_use_is_named_with_its_key(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = f"{PRESENT}needs: {{memory_gib: 0, disk_gib: 0}}\nports: {{gateway: {port}}}\n"
        with pytest.raises(NotReadyToStart, match=rf"Port {port} \(gateway\).*set ports\.gateway"):
            preflight.check_machine(settings_with(tmp_path, text), tmp_path)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with preflight.lock(tmp_path), pytest.raises(NotReadyToStart, match="Another run"):
        preflight.lock(tmp_path)


def test_the_folder_is_free_again_after_a_run(tmp_path: Path) -> None:
    preflight.lock(tmp_path).close()
    preflight.lock(tmp_path).close()
