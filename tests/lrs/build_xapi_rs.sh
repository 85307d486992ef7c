#!/usr/bin/env bash
# Builds xapi-rs, an LRS of xAPI 2.0 on PostgreSQL, for tests/lrs: needs cargo (Rust), takes some five minutes.
# What it makes is .xapi-rs/bin/xapi-rs beside the project, where the tests look for it (or where XAPI_RS says).
# PostgreSQL has to be there too: Debian's package `postgresql`.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo install xapi-rs --version 0.2.0 --root .xapi-rs
