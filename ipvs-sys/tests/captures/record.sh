#!/usr/bin/env bash
# Records what ipvsadm says to the kernel, and what the kernel answers, for tests/captures.
#
#   record.sh requests            one request for each line of ipvsadm-requests.commands
#   record.sh statistics          the counters and rates of services that were used
#
# As root in a throw-away guest with ip_vs, ipvsadm, strace, busybox and a device dummy0 that is up:
# it flushes the table. Writes to standard output; lines that begin with
#   $  are the command, > what it sent, < what it received, each datagram in hexadecimal,
#   |  what it printed. In requests, sequence and port, which vary, are zero.
set -euo pipefail
cd "$(dirname "$0")"
log=$(mktemp -p /run)
trap 'rm -f "$log"' EXIT

# datagrams CALL: those of the log, without peeks; one line each.
datagrams() {
  awk -v call="$1(" '
    index($0, call) == 1 { peek = /MSG_PEEK/; if (text != "" ) print text; text = "" }
    /^ \| / && !peek { line = substr($0, 11, 49); gsub(/ /, "", line); text = text line }
    END { if (text != "") print text }' "$log"
}

# Those of the family: not the controller (16), not an acknowledgement or an end (below 16).
of_the_family() { awk 'substr($0, 11, 2) != "00" || substr($0, 9, 2) > "10"'; }

header() {
  # The console of a guest may have written half a line.
  echo
  echo "# Linux $(uname -rm), $(lscpu | sed -n "s/^Byte Order: *//p"), made by record.sh"
  echo "# $1"
}

requests() {
  header "$(dpkg-query -f '${Package} ${Version}' -W ipvsadm)"
  while read -r -a arguments; do
    strace -o "$log" -e trace=sendmsg -e write=all -e signal=none ipvsadm "${arguments[@]}"
    # It asks for IPVS_CMD_GET_INFO (15) each time.
    sent=$(datagrams sendmsg | of_the_family | awk 'substr($0, 33, 2) != "0f"')
    [ "$(wc -l <<<"$sent")" = 1 ] || { echo "${arguments[*]}: not one request: $sent" >&2; exit 1; }
    echo "\$ ipvsadm ${arguments[*]}"
    echo "> ${sent:0:16}0000000000000000${sent:32}"
  done < <(grep -v '^#' ipvsadm-requests.commands)
}

# A backend in a namespace of its own, and clients of a service of each kind.
traffic() {
  ip netns add backend
  ip link add front type veth peer name eth0 netns backend
  ip addr add 10.2.0.1/24 dev front
  ip addr add fd00:2::1/64 dev front nodad
  ip link set front up
  ip -n backend addr add 10.2.0.2/24 dev eth0
  ip -n backend addr add fd00:2::2/64 dev eth0 nodad
  ip -n backend link set eth0 up
  ip -n backend route add default via 10.2.0.1
  ip -n backend route add default via fd00:2::1
  ip addr add 10.96.0.1/32 dev lo
  ip addr add fd00:96::1/128 dev lo nodad
  ip netns exec backend busybox nc -ll -p 8080 -e head -c 20000 /dev/zero &
  ip netns exec backend busybox nc -ll -p 8081 -e head -c 30000 /dev/zero &
  ipvsadm -A -t 10.96.0.1:80 -s rr
  ipvsadm -a -t 10.96.0.1:80 -r 10.2.0.2:8080 -m -w 2
  ipvsadm -a -t 10.96.0.1:80 -r 10.2.0.2:8081 -m -w 1
  ipvsadm -A -t [fd00:96::1]:80 -s rr
  ipvsadm -a -t [fd00:96::1]:80 -r [fd00:2::2]:8080 -m
  ipvsadm -A -u 10.96.0.1:53 -s wlc
  ipvsadm -a -u 10.96.0.1:53 -r 10.2.0.2:53 -m
  until busybox nc 10.2.0.2 8080 </dev/null >/dev/null && busybox nc 10.2.0.2 8081 </dev/null >/dev/null; do
    sleep 0.1
  done
  for _ in 1 2 3 4 5; do busybox nc 10.96.0.1 80 </dev/null >/dev/null; done
  for _ in 1 2 3; do busybox nc fd00:96::1 80 </dev/null >/dev/null; done
  for _ in 1 2; do echo question >/dev/udp/10.96.0.1/53; done
}

# The kernel shows counters two seconds late, and rates as long as there is something to average.
counted() { ipvsadm -Ln --stats --exact | awk '/^TCP.*\[/ { v6 = $3 } /^UDP/ { udp = $3 } END { exit !(v6 == 3 && udp == 2) }'; }

statistics() {
  ipvsadm -C
  traffic
  until counted; do sleep 0.2; done
  header "after requests to each of these services"
  for how in --stats --rate; do
    printed=$(strace -o "$log" -e trace=recvmsg -e read=all -e signal=none ipvsadm -Ln $how --exact)
    echo "\$ ipvsadm -Ln $how --exact"
    # Without the answers to IPVS_CMD_GET_INFO, which are of IPVS_CMD_SET_INFO (14).
    datagrams recvmsg | of_the_family | awk 'substr($0, 33, 2) != "0e" { print "< " $0 }'
    sed 's/^/| /' <<<"$printed"
  done
  ipvsadm -C
}

case ${1:-} in
  requests) ipvsadm -C; requests ;;
  statistics) statistics ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
