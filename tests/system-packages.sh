#!/bin/sh
# Install what Debian leaves out of its Python, where we may; else say what to do.
set -eu
python=$1

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "TigerFlow needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …" >&2
    exit 1
fi
if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq python3-venv
else
    echo "Python's venv module is missing; ask for: apt-get install python3-venv" >&2
    exit 1
fi
