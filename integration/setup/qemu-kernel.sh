#!/usr/bin/env bash
# Unpacks Debian's Linux 6.12 for the QEMU guest into the cache; does nothing if it is there.
set -euo pipefail
cache=${IPVS_AGENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ipvs-agent}
to=$cache/linux-6.12
if [ -d "$to/boot" ]; then
  echo "Linux $(ls "$to/lib/modules") is there"
  exit
fi
apt-get update -q >/dev/null
package=$(apt-cache depends linux-image-6.12-amd64 | sed -n 's/.*Depends: \(linux-image-6\.12\..*\)/\1/p' | head -n 1)
[ -n "$package" ] || { echo "no linux-image-6.12 among the Debian packages (bookworm-security has it)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
echo "unpacking $package"
(cd "$work" && apt-get download -q "$package" >/dev/null 2>&1 && dpkg -x ./*.deb root)
version=$(ls "$work/root/lib/modules")
depmod -b "$work/root" "$version"
mkdir -p "$to.new"
cp -a "$work/root/boot" "$work/root/lib" "$to.new/"
mv "$to.new" "$to"
