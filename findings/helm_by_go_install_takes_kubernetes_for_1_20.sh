#!/usr/bin/env bash
# A helm that `go install` has built refuses charts for a present Kubernetes: it takes version 1.20 for the cluster's.
#
# Versions:  helm v3.22.0, built by `go install helm.sh/helm/v3/cmd/helm@v3.22.0`.
# Behaviour: helm template knows no cluster and takes a version of Kubernetes for given. Its own builds are told one by the
#            linker, of the client library that they hold. Built by `go install`, that is missing, and the version is 1.20. So
#            `helm template` of a chart with kubeVersion ">=1.25.0-0" is refused, though helm is new, and a chart whose
#            templates ask .Capabilities.KubeVersion renders what is meant for 1.20. With --kube-version both are right.
# Source:    helm's pkg/chartutil/capabilities.go (k8sVersionMajor, k8sVersionMinor) and its Makefile (LDFLAGS).
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
GOBIN="$place/bin" go install helm.sh/helm/v3/cmd/helm@v3.22.0
export HOME="$place"
mkdir -p "$place/chart/templates"
cat >"$place/chart/Chart.yaml" <<'CHART'
apiVersion: v2
name: small
version: 1.0.0
CHART
cat >"$place/chart/templates/map.yaml" <<'MAP'
apiVersion: v1
kind: ConfigMap
metadata:
  name: small
data:
  kubernetes: {{ .Capabilities.KubeVersion.Version | quote }}
MAP
helm() { "$place/bin/helm" "$@"; }
echo "helm $(helm version --template '{{.Version}} {{.GoVersion}}')"
rendered=$(helm template small "$place/chart" | grep kubernetes:)
echo "it renders for $rendered"
[[ $rendered == *v1.20.0* ]]

echo 'kubeVersion: ">=1.25.0-0"' >>"$place/chart/Chart.yaml"
if refused=$(helm template small "$place/chart" 2>&1); then echo "not refused" >&2; exit 1; fi
echo "asked for a newer one: $refused"
[[ $refused == *"incompatible with Kubernetes v1.20.0"* ]]
given=$(helm template small "$place/chart" --kube-version 1.31.0 | grep kubernetes:)
echo "with --kube-version 1.31.0 it renders for $given"
[[ $given == *v1.31.0* ]]
