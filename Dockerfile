# syntax=docker/dockerfile:1.7
# Grantlog as a container image: `docker build -t grantlog .`; docs/deployment.md says how it is meant to run.

# The binary. Nothing but a C compiler is needed besides Rust: SQLite, mimalloc and AWS-LC are built from their sources.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY projections projections
COPY bench bench
# Not built; Cargo wants every member of the workspace.
COPY tests/kurrentdb_double tests/kurrentdb_double
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package grantlog --bin grantlog \
    && cp target/release/grantlog /grantlog
# What the volumes of the last stage begin as: a folder that is its user's.
RUN mkdir /data

# For the one-shot services of docker-compose.yml: the master key, and the certificates of a KurrentDB cluster.
FROM debian:bookworm-slim AS keys
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssl \
    && rm -rf /var/lib/apt/lists/*
COPY --chmod=0755 docker/make-keys /usr/local/bin/make-keys
# A named volume takes its owner from the folder that it is first mounted over: 65532 is Grantlog's user, 1000 that of
# KurrentDB's image.
RUN install -d -o 65532 -g 65532 -m 0700 /keys \
    && install -d -o 1000 -g 1000 -m 0700 /tls /tls/authority /tls/kurrentdb-1 /tls/kurrentdb-2 /tls/kurrentdb-3 \
    && install -d -o 1000 -g 1000 -m 0755 /tls/ca
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/make-keys"]

# The server. The binary needs glibc, libm and libgcc_s, which this has, of the same Debian as above, with certificate
# authorities and without a shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /grantlog /usr/local/bin/grantlog
COPY --from=build --chown=65532:65532 --chmod=0700 /data /var/lib/grantlog
# The data folder is ./data, for the server and for `docker exec … grantlog app list` alike.
WORKDIR /var/lib/grantlog
# Within a container the loopback address reaches nobody.
ENV GRANTLOG__SERVER__LISTEN=0.0.0.0:8080
VOLUME /var/lib/grantlog
EXPOSE 8080
USER 65532:65532
# A server with TLS of its own has another URL: set another health check there.
HEALTHCHECK --interval=5s --timeout=4s --start-period=90s --retries=3 \
    CMD ["/usr/local/bin/grantlog", "health", "--url", "http://127.0.0.1:8080"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/grantlog"]
CMD ["serve"]
