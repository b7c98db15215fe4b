#!/usr/bin/env bash
# Builds what a node and a whole control plane are made of, from Go modules into the cache: kubelet, containerd, runc,
# network plugins, Kubernetes' controllers and scheduler, CoreDNS. Does nothing for what is there.
set -euo pipefail
. "$(dirname "$0")/go.sh"

# runc's seccomp is a C library's.
if [ ! -e /usr/include/seccomp.h ]; then
  echo "installing libseccomp-dev"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null
  apt-get install -y -q --no-install-recommends libseccomp-dev >/dev/null
fi
CGO_ENABLED=1 build runc runc github.com/opencontainers/runc v1.5.2 "-X main.version=1.5.2" -tags seccomp
containerd=github.com/containerd/containerd/v2
for command in containerd containerd-shim-runc-v2 ctr; do
  build $command containerd $containerd/cmd/$command v2.4.2 "-X $containerd/version.Version=2.4.2"
done
for plugin in ipam/host-local main/loopback main/ptp; do
  build "${plugin#*/}" cni github.com/containernetworking/plugins/plugins/$plugin v1.9.1 ""
done
kubernetes_command kubelet
kubernetes_command kube-controller-manager
kubernetes_command kube-scheduler
build coredns coredns . v1.14.2 ""
