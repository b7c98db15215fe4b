#!/usr/bin/env bash
# Installs the Debian packages that the lab needs, if they are missing.
set -euo pipefail
declare -A wanted=(
  [linux.uml]=user-mode-linux [ipvsadm]=ipvsadm [ipset]=ipset [iptables]=iptables
  [conntrack]=conntrack [busybox]=busybox-static [modprobe]=kmod [ip]=iproute2
  [openssl]=openssl [qemu-system-x86_64]=qemu-system-x86 [gcc]=gcc [g++]=g++ [cpio]=cpio [xz]=xz-utils
  [sysctl]=procps [tmux]=tmux [unshare]=util-linux [systemd-analyze]=systemd
)
missing=()
for tool in "${!wanted[@]}"; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("${wanted[$tool]}")
done
# A compiler alone links nothing.
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null
  apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
fi
echo "packages are there"
