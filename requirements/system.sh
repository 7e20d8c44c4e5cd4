#!/usr/bin/env bash
# Looks for what a fresh Debian 12 lacks and installs it, where this user may: system.sh [--test]
# Without the right to install, or elsewhere than on Debian, a sentence says what to install.
set -euo pipefail

has_headers() { # PYTHON: whether its C headers are there
    "$1" -c 'import os, sysconfig, sys; sys.exit(not os.path.isfile(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null
}
has_venv() { # PYTHON: whether it can make environments
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v g++ >/dev/null || missing+=(g++)
ldconfig -p | grep 'libnuma.so.1' >/dev/null || missing+=(libnuma1)
ldconfig -p | grep 'libtcmalloc_minimal.so.4' >/dev/null || missing+=(libtcmalloc-minimal4) # answers come faster with it
has_venv python3.11 || has_venv python3 || missing+=(python3.11-venv)
has_headers python3.11 || has_headers python3 || missing+=(python3-dev)
if [ "${1:-}" = --test ]; then # the JavaScript SDK is one of the clients that are tested, in a browser too
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || missing+=(chromium-headless-shell)
fi
if [ ${#missing[@]} -eq 0 ]; then exit; fi

sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo -n); fi
if ! command -v apt-get >/dev/null || ! "${sudo[@]}" true 2>/dev/null; then
    # Not the end yet: some of it may lie elsewhere. What needs it and does not find it says so.
    echo "cloister: not installed: ${missing[*]}. This user may not install it; run: sudo apt-get install ${missing[*]}" >&2
    exit
fi
as_root() { # RUNLEVEL: only the program is wanted, not a server of the system's own that takes the usual port
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "$@"
}
echo "cloister: installing ${missing[*]} with apt-get"
if ! { as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }; then
    echo "cloister: apt-get could not install ${missing[*]}; its reason is above. Install them, then run this again." >&2
fi
