#!/usr/bin/env bash
# libcurl sends one POST up to six times if kept connections end without an answer, and tells the program of one failure.
#
# Versions:  pycurl 7.49.0 and the libcurl in its wheel (printed).
# Behaviour: A connection that was used before and ends before the first byte of an answer is taken for one that the
#            receiver had closed while it was idle. libcurl then sends the request again on the next kept connection,
#            and gives up after five more. That the request is a POST, or was read by the receiver, changes nothing. A
#            sender that keeps books sees one attempt; with ten kept connections the receiver had the body six times.
#            Only CURLOPT_FRESH_CONNECT or CURLOPT_FORBID_REUSE end that, and with them every request dials.
# Source:    lib/multi.c and lib/transfer.c of curl (Curl_retry_request, CONN_MAX_RETRIES).
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check pycurl==7.49.0
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import socket
import threading

import pycurl

KEPT = 10
arrived = []
everybody_is_here = threading.Barrier(KEPT)


def serve(connection):
    """Answers the first request once all connections have one; reads the second to its end, and closes."""
    with connection, connection.makefile("rb") as requests:
        for number in range(2):
            length = 0
            while (line := requests.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = requests.read(length)
            if number or body == b"the one":
                arrived.append(body)
                return
            everybody_is_here.wait(30)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def accept():
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def post(body):
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, f"http://127.0.0.1:{listening.getsockname()[1]}/")
    handle.setopt(pycurl.POSTFIELDS, body)
    return handle


def results(multi, handles):
    for handle in handles:
        multi.add_handle(handle)
    ended = []
    while len(ended) < len(handles):
        multi.perform()
        multi.select(1.0)
        _, well, ill = multi.info_read()
        ended += [None for _ in well] + [message for _, _, message in ill]
    return ended


listening = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, daemon=True).start()
multi = pycurl.CurlMulti()
first = [post(b"first") for _ in range(KEPT)]
assert results(multi, first) == [None] * KEPT
for handle in first:
    multi.remove_handle(handle)
(told,) = results(multi, [post(b"the one")])
print(pycurl.version)
print(f"one POST arrived {arrived.count(b'the one')} times; the program is told, once: {told}")
assert arrived.count(b"the one") == 6 and told
PYTHON
