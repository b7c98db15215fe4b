# syntax=docker/dockerfile:1
# The agent's image; docs/image.md says what is in it and why. `make image` builds the same without a container engine.
#   docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/ipvs-agent:0.1.0 --push .

# Compiles on the builder's own architecture, for the target's.
FROM --platform=$BUILDPLATFORM rust:1-bookworm AS build
ARG TARGETARCH
WORKDIR /src
COPY integration/setup/cross.sh integration/setup/
RUN case $TARGETARCH in amd64) target=x86_64 ;; arm64) target=aarch64 ;; *) exit 1 ;; esac \
 && echo "$target-unknown-linux-gnu" > /target \
 && integration/setup/cross.sh "$TARGETARCH" "$(cat /target)"
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,id=target-$TARGETARCH,target=/src/target \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    cargo build --locked --release -p ipvs-agent --target "$(cat /target)" \
 && install -D "target/$(cat /target)/release/ipvs-agent" /agent/usr/local/bin/ipvs-agent \
 && install -D -m 644 LICENSE /agent/usr/share/doc/ipvs-agent/copyright

# What the agent and the chart's init container start, from Debian packages of the target's architecture.
FROM --platform=$BUILDPLATFORM debian:bookworm-slim AS root
ARG TARGETARCH
COPY integration/setup/image-root.sh /
RUN IPVS_AGENT_CACHE=/tmp/cache /image-root.sh "$TARGETARCH" /root-of-image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title=ipvs-agent \
      org.opencontainers.image.description="A Kubernetes node's service proxy that programs the kernel's IPVS" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=root /root-of-image/ /
COPY --from=build /agent/ /
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin
# NET_ADMIN and NET_RAW reach a container's process only as root.
USER 0:0
ENTRYPOINT ["ipvs-agent"]
CMD ["run"]
