#!/usr/bin/env bash
# Puts Debian's Prometheus and promtool into the cache. The package is unpacked, not installed: it would start one.
set -euo pipefail
cache=${IPVS_AGENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ipvs-agent}
bin=$cache/bin
mkdir -p "$bin"
if [ -x "$bin/promtool" ] && [ -x "$bin/prometheus" ]; then
  echo "prometheus is there"
  exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# As root apt gives up its rights, and could not write here.
chmod 755 "$work"
apt-get -q -o APT::Sandbox::User=root download prometheus >/dev/null 2>&1 ||
  { apt-get update -q >/dev/null; apt-get -q -o APT::Sandbox::User=root download prometheus >/dev/null; }
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool ./usr/bin/prometheus
mv usr/bin/promtool usr/bin/prometheus "$bin/"
echo "prometheus is there, unpacked"
