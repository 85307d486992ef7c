#!/bin/sh
# once COMMAND...: runs a command of the job for a scheduler that knows success and failure alone.
#
# Status 3, which says that dead letters or rejects are left, is success. A SIGTERM goes on to the command, which is
# waited for. What EXTRA_CA_FILE holds is trusted beside what the image trusts.
set -u
[ $# -ge 1 ] || {
    echo "usage: once COMMAND..." >&2
    exit 64
}
if [ -n "${EXTRA_CA_FILE:-}" ]; then
    SSL_CERT_FILE=$(mktemp)
    export SSL_CERT_FILE
    cat "${SYSTEM_CA_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$EXTRA_CA_FILE" >"$SSL_CERT_FILE" || exit 1
fi
"$@" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
wait "$child"
status=$?
# A signal interrupts `wait`.
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
done
[ "$status" -eq 3 ] || exit "$status"
