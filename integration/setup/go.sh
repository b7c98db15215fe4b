# Sourced by what builds commands from Go modules: each into the cache, by name and version, once.
modules=$(cd "$(dirname "${BASH_SOURCE[0]}")/../control-plane" && pwd)
cache=${IPVS_AGENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ipvs-agent}
bin=$cache/bin
mkdir -p "$bin"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

# build NAME MODULE-DIRECTORY PACKAGE VERSION LDFLAGS [FLAG…]
build() {
  if [ -x "$bin/$1-$4" ]; then
    echo "$1 $4 is there"
    return
  fi
  echo "building $1 $4 (a few minutes, once)"
  (cd "$modules/$2" && go build -mod=readonly -o "$bin/$1-$4.new" -ldflags "-s -w $5" "${@:6}" "$3")
  mv "$bin/$1-$4.new" "$bin/$1-$4"
}

# kubernetes_command NAME: one of Kubernetes' own
kubernetes=v1.36.3
stamp=k8s.io/component-base/version
kubernetes_command() {
  build "$1" kubernetes "k8s.io/kubernetes/cmd/$1" $kubernetes \
    "-X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=1 -X $stamp.gitMinor=36"
}
