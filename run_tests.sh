#!/usr/bin/env bash
# Sets up the virtual environment and runs ruff, the import contracts, the type checker and pytest. Arguments go to
# pytest. With --lint first: all but pytest.
set -euo pipefail
cd "$(dirname "$0")"
. ./.setup_venv.sh test

ruff format --check .
ruff check .
lint-imports --no-logo
mypy
if [ "${1:-}" = --lint ]; then exit; fi
# By file: what the tests of a file share (servers, mostly) is started once. In the order of tests/support/markers.py.
pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder -m "not long" "$@"
