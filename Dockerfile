# The worker as an image: one static binary, no shell, no root, nothing to write to.
#
#   docker build -t rollcall --build-arg VERSION=v1.2.3 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Both bases can be replaced, for a mirror or for a machine without a registry: the first needs
# Go and a shell, the second needs nothing at all and may be scratch (scripts/docker.sh).
ARG GO_IMAGE=golang:1.26.6-trixie@sha256:ab563819a16cfe5faff0f96a8bb598fbb0e400ab2ac751996e60abcb23b106a3
ARG BASE_IMAGE=gcr.io/distroless/static-debian13:nonroot@sha256:f7f8f729987ad0fdf6b05eeeae94b26e6a0f613bdf46feea7fc40f7bd72953e6

FROM ${GO_IMAGE} AS build
WORKDIR /src
# The modules are a layer of their own: they change less often than the code.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY cmd cmd
COPY internal internal
COPY docs/runbook docs/runbook
ARG VERSION=dev
ARG REVISION=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=${VERSION} -X main.revision=${REVISION}" -o /out/worker ./cmd/worker

FROM ${BASE_IMAGE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rollcall" \
      org.opencontainers.image.description="A worker pool on NATS: jobs in, batches to microservices, one committed event out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/worker /worker
USER 65532:65532
# On loopback, the default, neither a kubelet nor Prometheus could reach it.
ENV ROLLCALL_HTTP_ADDR=:8080
EXPOSE 8080
# No HEALTHCHECK: the same image runs setup and other commands, which would be called unhealthy.
# For a replica it is ["CMD", "/worker", "probe"], as in docker-compose.yml.
ENTRYPOINT ["/worker"]
CMD ["run"]
