#!/bin/bash
# A node, in three steps. `enter NAME`: joins groups of its own in every hierarchy of cgroups; `leave NAME`: with these as
# its root it takes namespaces of its own, and goes on as their first process with `init NAME`: mounts, sysctls,
# containerd, images, kubelet.
# WORK is the run's folder, GROUPS_BEGIN how the groups' names begin, ADDRESS the node's, PODS its pods' prefix.
set -euo pipefail
step=$1 node=$2
# Version 1 of cgroups has several hierarchies, below a line "hierarchy path" each, and version 2 has one: "unified".
# A machine with both is one with version 1.
hierarchies() {
  local all
  all=$(awk -F: '$2 != "" { sub("name=", "", $2); print $2, $3 }' /proc/self/cgroup)
  echo "${all:-unified /}"
}
mount_hierarchies() {
  local name path options
  if [ "$(hierarchies)" = "unified /" ]; then
    # The same a second time is refused.
    ! mountpoint -q /sys/fs/cgroup || umount /sys/fs/cgroup
    mount -t cgroup2 groups /sys/fs/cgroup
    return
  fi
  mount -t tmpfs -o mode=755 groups /sys/fs/cgroup
  while read -r name path; do
    options=$name
    [ "$name" != systemd ] || options=none,name=systemd
    mkdir "/sys/fs/cgroup/$name"
    mount -t cgroup -o "$options" groups "/sys/fs/cgroup/$name"
  done < <(hierarchies)
}
# Of version 2: what is below a group has only what that hands down, and one that hands down has no process itself.
hand_down() {
  local controller
  for controller in $(cat "$1/cgroup.controllers"); do echo "+$controller" >"$1/cgroup.subtree_control"; done
}

if [ "$step" = enter ]; then
  mount_hierarchies
  while read -r name path; do
    if [ "$name" = unified ]; then
      hand_down /sys/fs/cgroup
      export UNIFIED=/sys/fs/cgroup/$GROUPS_BEGIN$node
      group=$UNIFIED
    else
      group=/sys/fs/cgroup/$name${path%/}/$GROUPS_BEGIN$node
    fi
    mkdir "$group"
    if [ "$name" = cpuset ]; then
      for file in cpuset.cpus cpuset.mems; do cat "${group%/*}/$file" >"$group/$file"; done
    fi
    echo $$ >"$group/cgroup.procs"
  done < <(hierarchies)
  exec unshare --cgroup "$0" leave "$node"
fi

if [ "$step" = leave ]; then
  if [ -n "${UNIFIED:-}" ]; then
    mkdir "$UNIFIED/node"
    echo $$ >"$UNIFIED/node/cgroup.procs"
    hand_down "$UNIFIED"
  fi
  exec ip netns exec "$node" unshare --mount --uts --ipc --pid --fork --kill-child \
    --propagation private "$0" init "$node"
fi

mount -t proc proc /proc
hostname "$node"
mount_hierarchies
own=$WORK/$node
mkdir -p "$own"
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/{lock,netns,bin,cfg,sysctl,node}
# What is written below these goes to the run's folder; what must lie on a real file system is bound there.
mount --bind "$own" /run/node
for folder in etc opt var usr/libexec; do
  [ -d "/$folder" ] || continue
  mkdir -p "/run/node/upper/$folder" "/run/node/scratch/$folder"
  mount -t overlay -o "lowerdir=/$folder,upperdir=/run/node/upper/$folder,workdir=/run/node/scratch/$folder" \
    "$node" "/$folder"
done
for folder in /var/lib/kubelet /var/lib/containerd /var/log/pods /var/log/containers; do
  mkdir -p "$folder" "/run/node$folder"
  mount --bind "/run/node$folder" "$folder"
done
mount --make-rshared /
# kubelet would write sysctls of the whole machine: it gets copies with the values that it wants.
while read -r path value; do
  echo "$value" >"/run/sysctl/${path//\//.}"
  mount --bind "/run/sysctl/${path//\//.}" "/proc/sys/$path"
done <<'SYSCTLS'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SYSCTLS
# User-Mode Linux tells no speed of its processor, and kubelet will not start without one.
if ! grep -q MHz /proc/cpuinfo; then
  { cat /proc/cpuinfo; echo 'cpu MHz : 1000.000'; } >/run/cfg/cpuinfo
  mount --bind /run/cfg/cpuinfo /proc/cpuinfo
fi
echo 1 >/proc/sys/net/ipv4/ip_forward
# Of User-Mode Linux too, which has no such tables: the agent finds out for itself.
for command in iptables ip6tables; do
  for verb in '' -save -restore; do ln -s /usr/sbin/xtables-nft-multi "/run/bin/$command$verb"; done
done
export PATH=/run/bin:$WORK/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
: >/run/resolv.conf

mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/10-lab.conflist <<JSON
{ "cniVersion": "1.0.0", "name": "lab", "plugins": [
  { "type": "ptp", "ipMasq": false, "ipam": { "type": "host-local", "dataDir": "/run/cni",
    "routes": [{ "dst": "0.0.0.0/0" }], "ranges": [[{ "subnet": "$PODS" }]] } } ] }
JSON
cat >/run/cfg/containerd.toml <<TOML
version = 3
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = 'registry.k8s.io/pause:3.10'
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = '$WORK/bin/runc'
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['$WORK/bin']
    conf_dir = '/etc/cni/net.d'
TOML
# Nobody but the lab is in the nodes' network, so kubelet's own port asks for no name.
cat >/run/cfg/kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
failSwapOn: false
protectKernelDefaults: true
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: { anonymous: { enabled: true }, webhook: { enabled: false } }
authorization: { mode: AlwaysAllow }
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: /run/resolv.conf
enforceNodeAllocatable: [pods]
imageGCHighThresholdPercent: 100
evictionHard: { memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1% }
syncFrequency: 10s
nodeStatusUpdateFrequency: 5s
YAML

containerd --config /run/cfg/containerd.toml >"$own/containerd.log" 2>&1 </dev/null &
for _ in $(seq 300); do
  ! ctr version >/dev/null 2>&1 || break
  sleep 0.1
done
for image in "$WORK"/images/*.tar; do ctr -n k8s.io images import --local "$image"; done
kubelet --config=/run/cfg/kubelet.yaml --kubeconfig="$WORK/kubeconfig" --hostname-override="$node" \
  --node-ip="$ADDRESS" --v=2 >"$own/kubelet.log" 2>&1 </dev/null &
# The first process of its namespace reaps what nobody waits for.
trap 'exit 0' TERM
while :; do
  sleep 3600 &
  wait $! || true
done
