# The container image of Vespid, of a checkout alone. Two targets: `cpu`, and `cpu-onnxruntime`, which is the default.
#
#   docker build --target cpu --tag vespid .
#   buildah build --build-arg BASE=mirror.example/debian:trixie-slim --build-arg BUILDER=mirror.example/rust:1.95-slim-trixie .
#
# `cargo xtask image` builds both of the same file, of a binary that is there in place of the first stage.

# Where it is compiled, and where libraries and certificates come from: one release of Debian, or glibc would be older than the
# binary.
ARG BUILDER=rust:1.95-slim-trixie
ARG BASE=debian:trixie-slim

FROM ${BUILDER} AS build
# What librdkafka, OpenSSL, AWS-LC and jemalloc are compiled with.
RUN apt-get update && apt-get install --yes --no-install-recommends cmake g++ make perl && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo rustc --locked --profile dist --package vespid --bin vespid -- -C link-arg=-Wl,-z,pack-relative-relocs \
    && install -D target/dist/vespid /out/vespid
# What the binary was made of, as CycloneDX.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/tools \
    cargo install --locked cargo-cyclonedx --version 0.5.9 --root /tools \
    && /tools/bin/cargo-cyclonedx cyclonedx --manifest-path host/cli/Cargo.toml --format json --describe binaries \
    && install -m 644 host/cli/*.cdx.json /out/sbom.cdx.json

FROM ${BASE} AS onnxruntime
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-pip && rm -rf /var/lib/apt/lists/*
COPY tests/python/requirements.txt /pinned.txt
# The version and the hashes that the tests use. The other libraries in the package are for Python.
RUN awk '/^[a-z]/ {wanted = /^onnxruntime==/} wanted' /pinned.txt > /onnxruntime.txt \
    && pip download --no-deps --require-hashes --only-binary :all: --dest /wheel --requirement /onnxruntime.txt \
    && python3 -m zipfile --extract /wheel/*.whl /unpacked && mkdir /out \
    && cp /unpacked/onnxruntime/capi/libonnxruntime.so.* /out/libonnxruntime.so \
    && cp /unpacked/onnxruntime/LICENSE /unpacked/onnxruntime/ThirdPartyNotices.txt /out

# What the image is made of: the binary, and of Debian the libraries that it loads and the certificates. No shell, no package manager.
FROM ${BASE} AS rootfs
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates libgcc-s1 libstdc++6 \
    && rm -rf /var/lib/apt/lists/*
COPY image/rootfs.sh /
COPY --from=build /out/vespid /rootfs/usr/local/bin/vespid
COPY --from=build /out/sbom.cdx.json /rootfs/usr/share/doc/vespid/
RUN sh /rootfs.sh /rootfs

FROM rootfs AS rootfs-onnxruntime
COPY --from=onnxruntime /out/libonnxruntime.so /rootfs/usr/local/lib/
COPY --from=onnxruntime /out/LICENSE /out/ThirdPartyNotices.txt /rootfs/usr/share/doc/onnxruntime/
RUN sh /rootfs.sh /rootfs

FROM scratch AS settings
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Vespid" \
      org.opencontainers.image.description="Serves machine-learning models whose code is a WebAssembly component" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV HOME=/var/lib/vespid
WORKDIR /var/lib/vespid
USER 65532:65532
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/vespid"]

FROM settings AS cpu
COPY --from=rootfs /rootfs/ /

FROM settings AS cpu-onnxruntime
COPY --from=rootfs-onnxruntime /rootfs/ /
