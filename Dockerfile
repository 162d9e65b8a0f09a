# syntax=docker/dockerfile:1
# The daemon alone: no shell, no package manager, not root. State, keys and settings are in the volume.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin oc-discovery \
    && install -D target/release/oc-discovery /out/oc-discovery \
    && install -d -m 0700 /out/state /out/backups

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/oc-discovery /usr/local/bin/oc-discovery
COPY --from=build --chown=65532:65532 /out/state /var/lib/oc-discovery
# A new volume takes its owner from what it is mounted on, so that the daemon may write there.
COPY --from=build --chown=65532:65532 /out/backups /backups
# ./oc-discovery.toml is the first place in which settings are looked for, and where `init` writes them.
WORKDIR /var/lib/oc-discovery
# Probes come from outside the container.
ENV STATE_DIRECTORY=/var/lib/oc-discovery \
    OCDISCOVERY_ADMIN_LISTEN=0.0.0.0:8080
VOLUME /var/lib/oc-discovery
EXPOSE 4001/tcp 8080/tcp
# More than shutdown_grace is given by whoever stops the container (docker stop: 10 s, then killed).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/oc-discovery", "health"]
ENTRYPOINT ["/usr/local/bin/oc-discovery"]
