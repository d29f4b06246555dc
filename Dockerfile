FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/attache ./cmd/attache \
	&& mkdir -m 0700 /out/data

# One static binary and the public root certificates: no shell, no libc, no user
# but its own. The root file system can be read-only; /data is all that is written.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/attache /attache
COPY --from=build --chown=65532:65532 /out/data /data
ENV ATTACHE_DATA_DIR=/data
USER 65532:65532
VOLUME /data
EXPOSE 3128
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/attache", "healthcheck"]
ENTRYPOINT ["/attache"]
# Only the proxy leaves the container. The API, the UI and the metrics stay on its
# loopback until a flag says otherwise.
CMD ["serve", "--listen", "0.0.0.0:3128"]
