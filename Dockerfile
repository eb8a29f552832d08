# syntax=docker/dockerfile:1
#
# The service, its workers and the auditors' program in one image; RETRACE_ROLE says which a container is. Not yet run with an engine: a test parses this file and holds it
# against the code (programs, folders, environment names, port), but nobody has built it.
#
#     docker build -t retrace .                                  CPU
#     docker build -t retrace:gpu --build-arg VARIANT=gpu .      CUDA 13 with cuDNN 9
ARG VARIANT=cpu

FROM rust:1.95-bookworm AS build
ARG VARIANT
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The pinned native parts; for `gpu` ONNX Runtime with the CUDA execution provider.
RUN if [ "$VARIANT" = gpu ]; then cargo xtask setup --gpu; else cargo xtask setup; fi
RUN cargo build --release --locked --package api --package verify

FROM debian:bookworm-slim AS base-cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 zlib1g \
    && rm -rf /var/lib/apt/lists/*

# Brings the CUDA 13 and cuDNN 9 libraries that the execution provider loads.
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS base-gpu

FROM base-${VARIANT}
ARG VARIANT
COPY --from=build /src/target/release/retrace /src/target/release/retrace-verify /usr/local/bin/
COPY --from=build /src/.runtime/ /usr/local/lib/retrace/
COPY models/manifest.toml /usr/local/share/retrace/models/
COPY models/generator/ /usr/local/share/retrace/models/generator/
COPY models/detector/ /usr/local/share/retrace/models/detector/

# The service needs no privileges. Keys, images and the checkpoint store live in the volume.
RUN useradd --system --uid 10001 --home-dir /var/lib/retrace --create-home retrace
USER retrace
WORKDIR /var/lib/retrace
VOLUME /var/lib/retrace

ENV RETRACE_RUNTIME=/usr/local/lib/retrace \
    RETRACE_MODELS=/usr/local/share/retrace/models \
    RETRACE_STATE=/var/lib/retrace \
    RETRACE_ROLE=all \
    RETRACE_HOST=0.0.0.0 \
    RETRACE_PORT=8080
EXPOSE 8080
STOPSIGNAL SIGTERM

# The base images hold no HTTP client; bash opens the connection itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]

ENTRYPOINT ["retrace"]
CMD ["serve"]
