VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD   := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
# More flags for go test, such as TESTFLAGS='-run TestRules -v'.
TESTFLAGS ?=
# More flags for the comparison, such as BENCHFLAGS='-run get-h1 -rounds 5'.
BENCHFLAGS ?=

.PHONY: help run test lint bench profile microbench build cross clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: build ## start everything on the embedded store and print how to use it
	./attache serve

test: ## install on Debian what the tests need, and run all of them
	.ci/install
	go test $(TESTFLAGS) -race -count=1 -timeout 15m ./...
	# All thousand connections, for which the race detector is too slow.
	go test $(TESTFLAGS) -count=1 -run TestAMonth ./oauth

lint: ## look for what is unformatted, suspicious or untidy
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l) || exit 1; \
	if [ -n "$$unformatted" ]; then echo "run gofmt -w on:" $$unformatted >&2; exit 1; fi
	go mod tidy -diff
	go vet ./...
	go vet -tags profile ./cmd/attache
	go tool -modfile=tools/go.mod staticcheck ./...

bench: build ## compare with other proxies, in less than ten minutes (docs/performance.md)
	go run ./bench $(BENCHFLAGS)

profile: ## renew cmd/attache/default.pgo, what the compiler optimizes for
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	CGO_ENABLED=0 go build -trimpath -tags profile -ldflags "-X main.profileDir=$$dir" -o $$dir/attache ./cmd/attache && \
	go run ./bench -attache $$dir/attache -variant '^attache$$' -rounds 8 -run '^((get|post)-h[12]-64|get-h1-256|connect-(full|resumed))$$' && \
	go tool pprof -proto -output cmd/attache/default.pgo $$dir/*.pprof

microbench: ## run the benchmarks of single functions
	go test -run '^$$' -bench . -benchmem ./...

build: ## build ./attache, static
	$(BUILD) -o attache ./cmd/attache

PLATFORMS := linux-amd64 linux-arm64 darwin-arm64 windows-amd64

cross: $(PLATFORMS:%=cross-%) ## build dist/ for every platform, and vet it there

.PHONY: $(PLATFORMS:%=cross-%)
cross-%: export GOOS = $(word 1,$(subst -, ,$*))
cross-%: export GOARCH = $(word 2,$(subst -, ,$*))
# vet takes the flags of the build, so that it finds the packages compiled.
$(PLATFORMS:%=cross-%): cross-%:
	$(BUILD) -o dist/attache-$*$(if $(findstring windows,$*),.exe) ./cmd/attache
	CGO_ENABLED=0 go vet -trimpath ./cmd/attache

clean: ## remove what was built
	rm -rf attache dist
