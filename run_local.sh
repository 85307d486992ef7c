#!/usr/bin/env bash
# The whole job on this machine: a local AWS, a local HTTP receiver, a sample, six forwarders, and whether what arrived
# is what was due. --help shows the arguments.
set -euo pipefail
cd "$(dirname "$0")"
. ./.setup_venv.sh local
# The forwarders of a Learning Locker are read from its database, which the registry does.
case " $* " in *" --learninglocker "*) . ./.setup_venv.sh registry ;; esac

exec python -m local "$@"
