#!/usr/bin/env bash
# The whole job on this machine: a local AWS, a local HTTP receiver, a sample, six forwarders, and whether what arrived
# is what was due. --help shows the arguments.
set -euo pipefail
cd "$(dirname "$0")"
. ./.setup_venv.sh local

exec python -m local "$@"
