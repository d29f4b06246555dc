# docs/container.md says how to run the image. podman and buildah build it with
# --format docker: OCI's own format has no HEALTHCHECK.
FROM --platform=$BUILDPLATFORM docker.io/library/golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG TARGETOS
ARG TARGETARCH
RUN mkdir -p -m 0700 /out/root/data \
	&& CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
	go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/attache ./cmd/attache

# One static binary and the public root certificates: no shell, no libc, no user
# but its own. The root file system can be read-only; /data is all that is written.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/attache /attache
# Copied with its parent, /data keeps its mode, which a new volume inherits.
COPY --from=build --chown=65532:65532 /out/root/ /
# Variables, not flags of serve: healthcheck and the other commands that are run in
# the container see them too. Only the proxy leaves the container; the API and the
# metrics stay on its loopback until a variable says otherwise. In production, the
# first start writes no access token to the log.
ENV ATTACHE_DATA_DIR=/data \
	ATTACHE_LISTEN=0.0.0.0:3128 \
	ATTACHE_PRODUCTION=true \
	TMPDIR=/data
USER 65532:65532
VOLUME /data
EXPOSE 3128
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/attache", "healthcheck"]
ENTRYPOINT ["/attache"]
CMD ["serve"]
