#!/usr/bin/env bash
# Builds FerretDB 1, a server that speaks MongoDB's protocol on SQLite, for the store tests: needs Go, takes minutes.
# What it makes is .ferretdb/ferretdb beside the project, where the tests look for it (or where FERRETDB says).
set -euo pipefail
cd "$(dirname "$0")/../.."
version=v1.23.0
module=github.com/FerretDB/FerretDB
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p .ferretdb
# As a dependency, not `go install`: the module asks for files that a release makes, so that its source is needed.
source=$(cd "$work" && GOFLAGS=-mod=mod go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$source" "$work/ferretdb"
chmod -R u+w "$work/ferretdb"
echo "$version" > "$work/ferretdb/build/version/version.txt"
(cd "$work/ferretdb" && go build -o "$work/built" ./cmd/ferretdb)
mv "$work/built" .ferretdb/ferretdb
.ferretdb/ferretdb --version
