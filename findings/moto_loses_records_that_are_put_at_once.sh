#!/usr/bin/env bash
# moto's Kinesis loses records that two calls put at once: both are answered as stored, under one sequence number.
#
# Versions:  moto 5.2.5 (its server), boto3 1.44.5.
# Behaviour: Two put_record calls to one shard at the same time may both be answered with the same sequence number, as if
#            both were stored. The stream then holds the record of the later one alone. It is rare while a shard is
#            small: a test that puts some hundred records with a few threads fails once in a while, and always
#            elsewhere. It is the more frequent the more records a shard has, since each call lists all of its keys between
#            reading the last sequence number and taking the next. put_records does the same. The server takes requests
#            in threads, and has no lock around them.
# Source:    moto/kinesis/models.py, Shard.put_record: "Note: this function is not safe for concurrency";
#            moto/server.py (threaded=True). Kinesis gives each record of a shard a number of its own:
#            https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html
set -euo pipefail
place=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check 'moto[server]==5.2.5' boto3==1.44.5 botocore==1.44.5
cd "$place"
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
export AWS_CONFIG_FILE="$place/none" AWS_SHARED_CREDENTIALS_FILE="$place/none" NO_PROXY=127.0.0.1
"$place/venv/bin/moto_server" -H 127.0.0.1 -p 0 >log 2>&1 &
server=$!
until address=$(grep -o 'http://127.0.0.1:[0-9]*' log); do kill -0 "$server"; sleep 0.1; done
export AWS_ENDPOINT_URL=$address
"$place/venv/bin/python" - <<'PYTHON'
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import boto3

THREADS = 8
EACH = 200
BEFORE = 20_000

kinesis = boto3.client("kinesis")
kinesis.create_stream(StreamName="a", ShardCount=1)


def stored():
    """The data of every record, page by page."""
    (shard,) = kinesis.list_shards(StreamName="a")["Shards"]
    iterator = kinesis.get_shard_iterator(
        StreamName="a", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found = []
    while page := (answer := kinesis.get_records(ShardIterator=iterator, Limit=10_000))["Records"]:
        found += [record["Data"].decode() for record in page]
        iterator = answer["NextShardIterator"]
    return found


# One call after the other: none is lost.
for first in range(0, BEFORE, 500):
    batch = [{"Data": f"before {n}".encode(), "PartitionKey": "u"} for n in range(first, first + 500)]
    assert kinesis.put_records(StreamName="a", Records=batch)["FailedRecordCount"] == 0
assert stored() == [f"before {n}" for n in range(BEFORE)]
print(f"{BEFORE} records, one call after the other: all are there")


def put(thread):
    """(data, sequence number) of each record, as the answers say: every call succeeds, or raises."""
    client = boto3.session.Session().client("kinesis")
    told = []
    for n in range(EACH):
        data = f"{thread} {n}"
        told.append((data, client.put_record(StreamName="a", Data=data.encode(), PartitionKey="u")["SequenceNumber"]))
    return told


with ThreadPoolExecutor(THREADS) as pool:
    told = [one for part in pool.map(put, range(THREADS)) for one in part]
numbers = Counter(number for _, number in told)
twice = sum(count - 1 for count in numbers.values())
lost = {data for data, _ in told} - set(stored())
print(f"{len(told)} more by {THREADS} threads, all answered as stored: {twice} answers repeat a number, {len(lost)} are lost")
assert len(told) == THREADS * EACH
assert lost, "moto keeps what is put at once"
# A number is told twice exactly where a record was overwritten.
assert len(lost) == twice
PYTHON
