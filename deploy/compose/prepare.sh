#!/bin/sh
# Makes the image and the secrets that compose.yaml needs, and keeps those that there are.
set -eu
cd "$(dirname "$0")"
docker compose build
# Only who may enter the directory reads them on this machine; in a container the job's user has to.
mkdir -p -m 700 secrets
[ -s secrets/registry_keys ] ||
    docker run --rm --entrypoint python session-forwarder:registry -m registry key >secrets/registry_keys
[ -s secrets/grafana_password ] || openssl rand -base64 24 >secrets/grafana_password
chmod 444 secrets/registry_keys secrets/grafana_password
mkdir -p in
echo "docker compose -f $PWD/compose.yaml up --detach"
