#!/usr/bin/env bash
# Sets up the virtual environment and runs ruff, the type checker and pytest. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
. ./.setup_venv.sh test

ruff format --check .
ruff check .
mypy
# By file: what the tests of a file share (servers, mostly) is started once.
pytest --numprocesses=2 --dist=loadfile "$@"
