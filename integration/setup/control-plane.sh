#!/usr/bin/env bash
# Builds kube-apiserver and etcd from Go modules into the cache, or what is named: kube-proxy, or helm, which is Helm 4,
# Helm 3 and the Prometheus operator's CRDs. Does nothing for what is there.
set -euo pipefail
. "$(dirname "$0")/go.sh"

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
  from=$(cd "$modules/helm" && go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
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
