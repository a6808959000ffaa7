# Portcullis as a container: the binary, the libraries it links to, root certificates, and nothing to log in to.
#
#   docker build -t portcullis .
#   docker run --rm -p 8080:8080 -v "$PWD/mine:/etc/portcullis:ro" portcullis proxy --config /etc/portcullis/portcullis.yaml
#
# In a container `listen` and `status` have to be 0.0.0.0: what listens on 127.0.0.1 is reached from inside only.

FROM rust:1-slim-bookworm AS build
WORKDIR /build
# The C compiler of the image is all that mimalloc, zlib and aws-lc need.
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --profile dist --locked --bin portcullis \
    && cp target/dist/portcullis /portcullis

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /portcullis /usr/local/bin/portcullis
COPY LICENSE /usr/share/doc/portcullis/LICENSE
USER 65532:65532
# Requests, and the status listener: /live, /ready, /metrics. The admin listener stays on the loopback.
EXPOSE 8080 9901
ENTRYPOINT ["/usr/local/bin/portcullis"]
