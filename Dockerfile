FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /attune .

# The binary, and the authorities it trusts when PostgreSQL, a token issuer or an action speaks TLS. No shell.
# There is no PostgreSQL in the image either: give it a DATABASE_URL.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /attune /attune
USER 65532:65532
# A container's loopback is reachable from nowhere. Beyond loopback the server wants authentication, or
# ATTUNE_INSECURE=true from whoever keeps the port private.
ENV ATTUNE_LISTEN_ADDR=0.0.0.0:8081
EXPOSE 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/attune", "health"]
ENTRYPOINT ["/attune"]
CMD ["serve"]
