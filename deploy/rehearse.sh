#!/bin/sh
# Installs the project as the Dockerfile's stage `registry-build` does, by its own commands, and runs the commands of
# compose.yaml and of the chart with it (deploy/rehearse.py). Needs root, and some minutes. PYTHON: the interpreter.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3.11}
# Not in /tmp, which is a directory of its own for each command.
place=$(mktemp -d /var/tmp/rehearse-XXXXXX)
trap 'rm -rf "$place"' EXIT
chmod 755 "$place"
mkdir "$place/src"
cp -r setup.py pyproject.toml requirements README.md LICENSE commands pipeline registry schemas transforms "$place/src"
cd "$place/src"
"$python" -m venv --without-pip "$place/session-forwarder"
install() { "$python" -m pip --python "$place/session-forwarder" install --quiet --disable-pip-version-check "$@"; }
for set in build job otel registry; do
    install --require-hashes --no-build-isolation -r "requirements/$set.txt"
done
install --no-deps --no-build-isolation .
cd "$OLDPWD"
"${REHEARSE_PYTHON:-python3}" deploy/rehearse.py "$place/session-forwarder"
