#!/usr/bin/env bash
# Installs what it takes to build the agent for an architecture, if it is missing: cross.sh ARCH TARGET
set -euo pipefail
architecture=$1 target=$2
triple=${target/-unknown/}
rustup target list --installed | grep -qx "$target" || rustup target add "$target"
if [ "$architecture" = "$(dpkg --print-architecture)" ]; then
  echo "$target is this machine's own"
  exit
fi
if ! command -v "$triple-gcc" >/dev/null || [ ! -e "/usr/$triple/include/stdlib.h" ]; then
  echo "installing a C compiler and library for $architecture"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null
  apt-get install -y -q --no-install-recommends "gcc-${triple//_/-}" "libc6-dev-$architecture-cross" >/dev/null
fi
echo "a compiler for $target is there"
