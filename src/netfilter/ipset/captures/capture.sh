#!/usr/bin/env bash
# Writes the captures in this folder: what ipset(8) and the kernel say to each other, seen by
# strace in a network namespace of its own. Needs root, ipset and strace.
#
#   $ COMMAND    what was run
#   > HEX        ipset's request
#   < HEX        the kernel's answer, a line for each datagram
set -euo pipefail
cd "$(dirname "$0")"
[ "${1:-}" = inside ] || exec unshare --net ./capture.sh inside

# Leaves questions about versions and types out: IPSET_CMD_PROTOCOL, _HEADER and _TYPE.
hex() {
  awk '
    function flush() {
      if (line == "") return
      if (mark == ">") { command = substr(line, 9, 2); kept = command !~ /^(01|0c|0d)$/ }
      if (kept) print mark " " line
      line = ""
    }
    /sendto\(/ { flush(); mark = ">" }
    /recvmsg\(/ { flush(); mark = "<" }
    /^ \| / { dump = substr($0, 11, 49); gsub(/ /, "", dump); line = line dump }
    END { flush() }
  ' "$1"
}

seen() {
  echo "\$ ipset $*"
  strace -e trace=sendto,recvmsg -e read=3 -e write=3 -o "$trace" ipset "$@" >/dev/null
  hex "$trace"
}

story() {
  local type=$1 family=$2
  shift 2
  echo "# Linux $(uname -r | grep -oE '^[0-9]+\.[0-9]+'), $(ipset --version | cut -d, -f1), $(uname -m)"
  seen create CAP "$type" family "$family" maxelem 1048576
  for entry in "$@"; do seen add CAP "$entry"; done
  seen list -t
  seen list CAP
  seen del CAP "$1"
  seen destroy CAP
}

trace=$(mktemp)
trap 'rm -f "$trace"' EXIT
story hash:ip,port inet 10.96.0.1,tcp:443 10.96.0.10,udp:53 192.0.2.7,sctp:1 >hash-ip-port-inet.txt
story hash:ip,port inet6 fd00:96::1,tcp:443 fd00:96::a,udp:53 2001:db8::7,sctp:1 >hash-ip-port-inet6.txt
story hash:ip,port,ip inet 10.244.1.2,tcp:8080,10.244.1.2 10.244.1.3,udp:53,10.244.2.3 \
  >hash-ip-port-ip-inet.txt
story hash:ip,port,ip inet6 fd00:1::2,tcp:8080,fd00:1::2 fd00:1::3,sctp:5,fd00:2::3 \
  >hash-ip-port-ip-inet6.txt
story hash:net inet 10.244.1.0/24 10.0.0.0/8 192.0.2.7/32 >hash-net-inet.txt
story hash:net inet6 fd00:244:1::/64 fd00::/8 2001:db8::7/128 >hash-net-inet6.txt
