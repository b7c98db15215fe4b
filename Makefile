# Every job is a target, for people and for continuous integration alike.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

export IPVS_AGENT_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ipvs-agent
export CARGO_TARGET_DIR ?= $(IPVS_AGENT_CACHE)/target
KERNEL ?= uml
SCENARIO ?=

# A heading with the seconds since the first make of this run.
ifndef STARTED
export STARTED := $(shell date +%s)
endif
phase = @printf '\n=== %s (after %d s)\n' "$(1)" "$$(( $$(date +%s) - $(STARTED) ))"

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-14s %s\n", $$1, $$2 }'

.PHONY: deps
deps: ## Install the Debian packages and build the API server that tests need (cached)
	$(call phase,packages)
	@integration/setup/packages.sh
	$(call phase,kube-apiserver and etcd from Go modules)
	@integration/setup/control-plane.sh
	$(call phase,Linux 6.12 for the second guest)
	@integration/setup/qemu-kernel.sh

.PHONY: build
build: ## Build the agent and the lab
	$(call phase,build)
	@cargo build --workspace --examples --bins

.PHONY: lint
lint: ## Format, clippy and documentation, without warnings
	$(call phase,lint)
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps

.PHONY: test-unit
test-unit: ## Unit and property tests, and the netfilter clients on this kernel (as root)
	$(call phase,unit tests)
	@cargo test --quiet --workspace

.PHONY: test-kernel
test-kernel: build ## Scenarios with real packets: make test-kernel KERNEL=uml|qemu|native-nft|… SCENARIO=name
	$(call phase,scenarios on $(KERNEL))
	@$(CARGO_TARGET_DIR)/debug/lab run --kernel $(KERNEL) $(SCENARIO)

.PHONY: test-matrix
test-matrix: build ## Every cell of the conformance matrix: make test-matrix KERNEL=uml|qemu
	$(call phase,the whole matrix on $(KERNEL))
	@$(CARGO_TARGET_DIR)/debug/lab run --kernel $(KERNEL) matrix-full

.PHONY: conformance
conformance: build ## Every story and every cell by every dataplane, then docs/conformance.md from what they proved
	@$(CARGO_TARGET_DIR)/debug/lab conformance --forget
	@$(MAKE) --no-print-directory --keep-going -j2 $(SUITES) WHOLE=--whole
	@$(MAKE) --no-print-directory --keep-going -j2 $(MATRICES)
	@$(CARGO_TARGET_DIR)/debug/lab conformance > docs/conformance.md.new && mv docs/conformance.md.new docs/conformance.md

.PHONY: test-parity
test-parity: build ## ipvs-sys against ipvsadm on a real kernel
	$(call phase,ipvs-sys and ipvsadm side by side)
	@$(CARGO_TARGET_DIR)/debug/lab exec --kernel $(KERNEL) -- $(CARGO_TARGET_DIR)/debug/examples/parity 1 12

.PHONY: test-shell
test-shell: build ## The shell's listings and verbs beside ipvsadm, over generated tables
	$(call phase,the commands of the shell beside ipvsadm)
	@$(CARGO_TARGET_DIR)/debug/lab run --kernel $(KERNEL) --guests 2 shell-list shell-verbs

.PHONY: test-crate
test-crate: ## ipvs-sys as a crate of its own: it packages, builds alone, and its fuzz targets build
	$(call phase,ipvs-sys as a crate of its own)
	@cargo publish --quiet --dry-run --allow-dirty -p ipvs-sys
	@cargo check --quiet --manifest-path ipvs-sys/fuzz/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/fuzz
	@echo '1 passed, 0 failed'

.PHONY: test-rules
test-rules: build ## The rules that ask IPVS, through both variants of iptables, in the QEMU guest
	$(call phase,rules that ask IPVS)
	@set -o pipefail; cargo test --quiet -p ipvs-agent --test netfilter \
	  --config 'target."cfg(unix)".runner = ["$(CARGO_TARGET_DIR)/debug/lab", "exec", "--kernel", "qemu", "--"]' \
	  -- --ignored | grep -v '^test result'

.PHONY: chart-deps
chart-deps:
	$(call phase,Helm 4 and 3 from Go modules and Prometheus)
	@integration/setup/packages.sh
	@integration/setup/control-plane.sh
	@integration/setup/control-plane.sh helm
	@integration/setup/promtool.sh

.PHONY: test-chart
test-chart: chart-deps build ## The Helm chart: goldens, refusals, Helm 4 and 3 and RBAC at a real API server, alerts
	$(call phase,the chart)
	@$(CARGO_TARGET_DIR)/debug/lab chart

.PHONY: chart-goldens
chart-goldens: chart-deps build ## Write what the chart renders, and its README's table, anew
	@$(CARGO_TARGET_DIR)/debug/lab chart --update goldens readme

# ARCH as Debian and OCI call it. The target of this machine's own is the one that cargo takes without being told.
ARCH ?= $(shell dpkg --print-architecture)
IMAGE_NAME ?= docker.io/library/ipvs-agent:$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
export SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
image_target_amd64 = x86_64-unknown-linux-gnu
image_target_arm64 = aarch64-unknown-linux-gnu
ifneq ($(ARCH),$(shell dpkg --print-architecture))
image_target = $(or $(image_target_$(ARCH)),$(error ARCH=$(ARCH): there are amd64 and arm64))
endif
image_linker = CARGO_TARGET_$(shell echo $(image_target) | tr a-z- A-Z_)_LINKER=$(subst -unknown,,$(image_target))-gcc
# Tests of the image take the agent that is built for tests anyway; it goes to a place of its own.
PROFILE ?= release
image_agent = $(CARGO_TARGET_DIR)/$(addsuffix /,$(image_target))$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/ipvs-agent
image = $(IPVS_AGENT_CACHE)/image
image_layout = $(image)/$(addsuffix /,$(filter-out release,$(PROFILE)))ipvs-agent-$(ARCH)

.PHONY: image
image: ## The container image without a container engine: make image ARCH=amd64|arm64 IMAGE_NAME=… (docs/image.md)
	$(call phase,the agent for the image ($(PROFILE)))
	@$(if $(image_target),integration/setup/cross.sh $(ARCH) $(image_target))
	@$(if $(image_target),$(image_linker)) cargo build --profile $(PROFILE) $(addprefix --target ,$(image_target)) \
	  $(if $(filter dev,$(PROFILE)),--workspace --examples --bins,-p ipvs-agent)
	@cargo build --quiet -p integration
	$(call phase,its image)
	@mkdir -p $(dir $(image_layout))
	@integration/setup/image-root.sh $(ARCH) $(image)/root-$(ARCH) $(if $(RENEW),--renew)
	@$(CARGO_TARGET_DIR)/debug/lab image build --architecture $(ARCH) --name $(IMAGE_NAME) --licence LICENSE \
	  --agent $(image_agent) --root $(image)/root-$(ARCH) --to $(image_layout) \
	  $(addprefix --revision ,$(shell git describe --always --abbrev=40 --dirty 2>/dev/null))

.PHONY: cluster-deps
cluster-deps:
	$(call phase,kubelet containerd and what goes with them from Go modules)
	@integration/setup/packages.sh
	@integration/setup/control-plane.sh
	@integration/setup/control-plane.sh helm
	@integration/setup/cluster.sh

# Its nodes are of this machine's architecture. On its own kernel, and by IPVS in a guest, which wants the machine for
# itself: containerd gives up what takes ten seconds. qemu takes three times as long as uml.
CLUSTERS ?= native-nft uml

.PHONY: test-cluster
test-cluster: cluster-deps build image ## The chart and the image on nodes with kubelet and containerd: make test-cluster CLUSTERS=qemu
	$(call phase,clusters without kube-proxy)
	@$(MAKE) --no-print-directory $(CLUSTERS:%=cluster-%)

.PHONY: test-image
test-image: chart-deps build image ## The image: unpacked and run as the chart says, with its capabilities and not one more
	$(call phase,the image as the chart runs it)
	@$(CARGO_TARGET_DIR)/debug/lab image test --layout $(image_layout)

.PHONY: bench
bench: build ## Side by side with kube-proxy on this machine's kernel (10 minutes), into docs/performance.md
	$(call phase,kube-proxy from Go modules)
	@integration/setup/control-plane.sh kube-proxy
	$(call phase,the agent as it is released)
	@cargo build --release -p ipvs-agent
	$(call phase,benchmark)
	@$(CARGO_TARGET_DIR)/debug/lab bench --agent $(CARGO_TARGET_DIR)/release/ipvs-agent --report docs/performance.md

.PHONY: bench-shell
bench-shell: build ## list, save and restore beside ipvsadm at 5,000 × 10 in a guest (figures, printed)
	$(call phase,the agent as it is released)
	@cargo build --release -p ipvs-agent
	$(call phase,list save and restore beside ipvsadm)
	@mkdir -p $(CARGO_TARGET_DIR)/bench-shell
	@cp $(CARGO_TARGET_DIR)/debug/lab $(CARGO_TARGET_DIR)/release/ipvs-agent $(CARGO_TARGET_DIR)/bench-shell/
	@$(CARGO_TARGET_DIR)/bench-shell/lab run --kernel $(KERNEL) shell-scale

.PHONY: demo
demo: ## See it work: under two minutes, no cluster, nothing left behind
	@integration/setup/packages.sh
	@cargo build --quiet -p ipvs-agent -p integration
	@$(CARGO_TARGET_DIR)/debug/lab demo

# The story prints a frame's lines behind its name.
.PHONY: frames
frames: build ## The frames of `ipvs-agent top` in docs/top, from a real terminal
	@$(CARGO_TARGET_DIR)/debug/lab run --kernel uml top | tee $(CARGO_TARGET_DIR)/frames | grep -v 'FRAME '
	@mkdir -p docs/top && sed -n 's/^FRAME //p' $(CARGO_TARGET_DIR)/frames | \
	  awk -F '|' '{ file = "docs/top/" $$1 ".txt"; sub(/^[^|]*[|]/, ""); print > file }'

.PHONY: test-demo
test-demo: build ## The demo in a guest, and as it runs on a kernel that has ip_vs
	$(call phase,the demo)
	@out=$$($(CARGO_TARGET_DIR)/debug/lab demo) || { echo "$$out"; exit 1; }; echo '1 passed, 0 failed'
	@out=$$($(CARGO_TARGET_DIR)/debug/lab exec --kernel qemu -- $(CARGO_TARGET_DIR)/debug/lab demo) || \
	  { echo "$$out"; exit 1; }; echo '1 passed, 0 failed'

# Every dataplane's suite. An interrupt ends the lab, and by that its reader.
SUITES = suite-qemu suite-uml suite-native-legacy suite-native-nft
MATRICES = $(SUITES:suite-%=matrix-%)
CLUSTER_JOBS = $(CLUSTERS:%=cluster-%)
as_said_by = 2>&1 | (trap '' INT; exec sed -u 's/^/$(1): /')
suite-uml suite-native-legacy suite-native-nft: GUESTS = --guests 2
.PHONY: $(SUITES) $(MATRICES) $(CLUSTER_JOBS)
$(SUITES): suite-%:
	@$(CARGO_TARGET_DIR)/debug/lab run --kernel $* $(GUESTS) $(WHOLE) $(call as_said_by,$*)
$(MATRICES): matrix-%:
	@$(CARGO_TARGET_DIR)/debug/lab run --kernel $* matrix-full $(call as_said_by,$*)
$(CLUSTER_JOBS): cluster-%:
	@$(CARGO_TARGET_DIR)/debug/lab cluster --kernel $* --image $(image_layout).tar $(call as_said_by,cluster on $*)

# Two at once: what is emulated computes, the others wait half of their time. The long ones first.
.PHONY: test-kernels
test-kernels: build cluster-deps image ## The ipvsadm comparison, all scenarios by every dataplane, and the clusters
	@$(MAKE) --no-print-directory test-parity KERNEL=uml
	@$(MAKE) --no-print-directory test-rules
	@$(MAKE) --no-print-directory test-shell KERNEL=uml
	$(call phase,scenarios on every kernel and clusters)
	@$(MAKE) --no-print-directory --keep-going -j2 suite-qemu suite-uml $(CLUSTER_JOBS) suite-native-legacy suite-native-nft

.PHONY: test
test: ## What continuous integration runs
	@integration/setup/count.sh $(MAKE) --no-print-directory PROFILE=dev CLUSTERS=native-nft \
	  deps lint test-unit test-crate test-chart test-image test-kernels test-demo
