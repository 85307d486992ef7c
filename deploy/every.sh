#!/bin/sh
# every SECONDS COMMAND...: runs a command now and then again SECONDS after each began, one at a time, until SIGTERM.
#
# For places without a scheduler, such as compose. A command that takes longer than SECONDS is followed at once by the
# next. When one has ended well (status 0, or 3: dead letters or rejects are left), EVERY_FILE (/tmp/every) is touched,
# so that a health check can ask how long ago that was. A SIGTERM goes on to the command, which is waited for.
set -u
[ $# -ge 2 ] || {
    echo "usage: every SECONDS COMMAND..." >&2
    exit 64
}
seconds=$1
shift
file=${EVERY_FILE:-/tmp/every}
child=
stopping=

stop() {
    stopping=yes
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT

# A signal interrupts `wait`, which then has to be asked again.
wait_for() {
    wait "$1"
    status=$?
    while kill -0 "$1" 2>/dev/null; do
        wait "$1"
        status=$?
    done
}

while [ -z "$stopping" ]; do
    began=$(date +%s)
    "$@" &
    child=$!
    wait_for "$child"
    case $status in
        0 | 3) : >"$file" ;;
        *) echo "every: ended with status $status: $*" >&2 ;;
    esac
    left=$((began + seconds - $(date +%s)))
    if [ -z "$stopping" ] && [ "$left" -gt 0 ]; then
        sleep "$left" &
        child=$!
        wait_for "$child"
    fi
    child=
done
