#!/usr/bin/env bash
# Makes the root of the agent's image from Debian packages, without installing them: what the agent starts
# (iptables in both variants), what the chart's init container does (modprobe), the libraries of these, and no shell.
#   image-root.sh ARCHITECTURE DIRECTORY [--renew]
# Packages are those of this machine's Debian release, of any architecture, kept in the cache until --renew.
set -euo pipefail
architecture=$1 to=$2
cache=${IPVS_AGENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ipvs-agent}
wanted=(base-files iptables kmod libc6 libgcc-s1 netbase)
umask 022

# apt has a state of its own here, in which nothing is installed but what maintainer scripts ask for: none is run.
release=$(. /etc/os-release && echo "$ID-$VERSION_ID")
packages=$cache/image/packages-$release-$architecture
[ "${3:-}" != --renew ] || rm -rf "$packages"
if [ ! -d "$packages" ]; then
  echo "downloading ${wanted[*]} of $release for $architecture"
  rm -rf "$packages.new"
  mkdir -p "$packages.new"/{state/lists/partial,archives/partial}
  printf '%s\n' 'Package: no-scripts' 'Status: install ok installed' 'Version: 1' 'Architecture: all' \
    'Maintainer: nobody <nobody@localhost>' 'Provides: debconf-2.0, awk' 'Description: none' \
    > "$packages.new/status"
  run_apt() {
    apt-get -qq -o "Dir::State=$packages.new/state" -o "Dir::State::status=$packages.new/status" \
      -o "Dir::Cache=$packages.new" -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture" \
      -o APT::Sandbox::User=root -o APT::Install-Recommends=false "$@"
  }
  run_apt update
  run_apt install --download-only --yes "${wanted[@]}" >/dev/null
  mv "$packages.new/archives" "$packages"
  rm -rf "$packages.new" "$packages/partial" "$packages/lock"
fi

rm -rf "$to"
mkdir -p "$to"/{usr/{bin,sbin,lib,lib64,local/bin},var/lib/dpkg/status.d}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$to/$folder"; done
# Character sets, translations and manuals are for people; licences stay.
skipped=(./usr/share/{doc,man,locale,lintian,bug,base-files,info} './usr/lib/*/gconv/*' './usr/lib/*/audit'
  ./usr/share/{bash-completion,initramfs-tools} ./etc/{init.d,update-motd.d,profile.d} ./var/backups)
for package in "$packages"/*.deb; do
  unpack=(tar -x -p --no-same-owner --keep-directory-symlink -C "$to")
  dpkg-deb --fsys-tarfile "$package" | "${unpack[@]}" "${skipped[@]/#/--exclude=}"
  dpkg-deb --fsys-tarfile "$package" | "${unpack[@]}" --wildcards './usr/share/doc/*/copyright' 2>/dev/null || true
done
newest=$(find "$to" -type f -printf '%Ts\n' | sort -n | tail -n 1)
# By these a scanner knows what is in the image.
for package in "$packages"/*.deb; do
  dpkg-deb --field "$package" > "$to/var/lib/dpkg/status.d/$(dpkg-deb --field "$package" Package)"
done

# What the packages' scripts would have done.
for family in iptables ip6tables; do
  for verb in '' -save -restore; do ln -s "xtables-nft-multi" "$to/usr/sbin/$family$verb"; done
done
printf 'root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n' > "$to/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' > "$to/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\nservices: files\n' > "$to/etc/nsswitch.conf"
rm -rf "$to/var/run" "$to/var/lock" && ln -s /run "$to/var/run"
# Where the chart mounts: a root that is read-only can have no directory made.
mkdir -p "$to"/{dev,proc,sys,run/ipvs-agent,etc/ipvs-agent,var/lib/kube-proxy,lib/modules,host/proc/sys/net}
# All of one time, the newest file's: the same packages make the same root.
find "$to" -exec touch --no-dereference --date="@$newest" {} +
