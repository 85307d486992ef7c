#!/usr/bin/env bash
# The job of run_local.sh on a Flink cluster of this machine: one JobManager, two TaskManagers, user code in a pool of
# workers beside each. First as it is, then with one TaskManager killed while records are sent. Arguments go to both; --help.
# With --streaming first: the streaming job instead, from Kinesis to a receiver, measured; --streaming --help.
# With --tests first: the tests that need Flink, six minutes; arguments go to pytest.
#
# Needs Java 17 and Maven. Downloads, once, into .local-flink: from PyPI, Flink's distribution (apache-flink-libraries,
# 230 MB); from Maven Central, what Beam's job server for Flink is made of (180 MB, see local/flink/pom.xml).
set -euo pipefail
cd "$(dirname "$0")"
FLINK=1.19.3
for tool in java mvn; do
    command -v "$tool" >/dev/null || { echo "run_flink: $tool is not installed" >&2; exit 1; }
done
if [ "${1:-}" = --tests ]; then . ./.setup_venv.sh test; else . ./.setup_venv.sh local; fi

dist=.local-flink/flink-$FLINK
if [ ! -d "$dist" ]; then
    echo "Downloading apache-flink-libraries $FLINK from PyPI (230 MB) ..." >&2
    mkdir -p .local-flink/download "$dist.part"
    pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest .local-flink/download \
        "apache-flink-libraries==$FLINK"
    tar -xzf ".local-flink/download/apache-flink-libraries-$FLINK.tar.gz" -C "$dist.part" --strip-components=2 \
        "apache-flink-libraries-$FLINK/deps/lib"
    rm -r .local-flink/download
    mv "$dist.part" "$dist"
fi
jar=local/flink/target/flink-job-server.jar
if [ ! -f "$jar" ] || [ -n "$(find local/flink/pom.xml local/flink/src -newer "$jar")" ]; then
    echo "Building $jar: its parts come from Maven Central (180 MB) ..." >&2
    mvn -B -q -f local/flink/pom.xml package
fi

if [ "${1:-}" = --tests ]; then
    shift
    export FLINK_JOB_SERVER_JAR=$jar FLINK_DISTRIBUTION=$dist
    exec pytest tests/pipeline/test_flink.py tests/pipeline/test_streaming.py tests/local/test_flink_cluster.py "$@"
fi
if [ "${1:-}" = --streaming ]; then
    shift
    exec python -m local.flink.streaming --distribution "$dist" --job_server_jar "$jar" "$@"
fi
python -m local.flink --distribution "$dist" --job_server_jar "$jar" "$@"
echo
python -m local.flink --distribution "$dist" --job_server_jar "$jar" --kill "$@"
