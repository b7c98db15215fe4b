#!/usr/bin/env bash
# Builds kube-apiserver and etcd from Go modules into the cache, or what is named: kube-proxy, or helm, which is Helm 4,
# Helm 3 and the Prometheus operator's CRDs. Does nothing for what is there.
set -euo pipefail
here=$(cd "$(dirname "$0")/../control-plane" && pwd)
cache=${IPVS_AGENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ipvs-agent}
bin=$cache/bin
mkdir -p "$bin"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

# build NAME MODULE-DIRECTORY PACKAGE VERSION LDFLAGS
build() {
  if [ -x "$bin/$1-$4" ]; then
    echo "$1 $4 is there"
    return
  fi
  echo "building $1 $4 (a few minutes, once)"
  (cd "$here/$2" && go build -mod=readonly -o "$bin/$1-$4.new" -ldflags "-s -w $5" "$3")
  mv "$bin/$1-$4.new" "$bin/$1-$4"
}

# kubernetes_command NAME: one of Kubernetes' own
kubernetes=v1.36.3
stamp=k8s.io/component-base/version
kubernetes_command() {
  build "$1" kubernetes "k8s.io/kubernetes/cmd/$1" $kubernetes \
    "-X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=1 -X $stamp.gitMinor=36"
}

# helm MODULE-DIRECTORY MAJOR VERSION
helm() {
  build helm "$1" "helm.sh/helm/$2/cmd/helm" "$3" "-X helm.sh/helm/$2/internal/version.version=$3"
}

# The CRDs as they come in the operator's module.
operator=v0.87.1
operator_crds() {
  local to=$bin/../crds-$operator module=github.com/prometheus-operator/prometheus-operator@$operator from
  if [ -d "$to" ]; then
    echo "CRDs of $operator are there"
    return
  fi
  from=$(cd "$here/helm" && go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  rm -rf "$to.new" && mkdir "$to.new"
  for kind in servicemonitors podmonitors prometheusrules; do
    cp "$from/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$to.new/"
  done
  chmod -R u+w "$to.new" && mv "$to.new" "$to"
}

case ${1:-} in
  kube-proxy) kubernetes_command kube-proxy ;;
  helm)
    helm helm v4 v4.3.1
    helm helm3 v3 v3.22.0
    operator_crds
    ;;
  *)
    kubernetes_command kube-apiserver
    build etcd etcd go.etcd.io/etcd/server/v3 v3.6.7 ""
    ;;
esac
