#!/usr/bin/env bash
# Installs what it takes to build the agent for another architecture, if it is missing: cross.sh ARCH TARGET
set -euo pipefail
architecture=$1 target=$2
triple=$(dpkg-architecture -a "$architecture" -q DEB_HOST_GNU_TYPE 2>/dev/null || echo "${target/-unknown/}")
rustup target list --installed | grep -qx "$target" || rustup target add "$target"
if ! command -v "$triple-gcc" >/dev/null || [ ! -e "/usr/$triple/include/stdlib.h" ]; then
  echo "installing a C compiler and library for $architecture"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null
  apt-get install -y -q --no-install-recommends "gcc-${triple//_/-}" "libc6-dev-$architecture-cross" >/dev/null
fi
echo "a compiler for $target is there"
