# Every target that people and CI run. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION    ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)
FUZZTIME    ?= 20s
# Commits after this one have subjects of at most 72 characters.
SUBJECTS    := 93dfe85
SEEDS       ?= 100000
FIRST       ?= 1
MINUTES     ?= 20
OUTAGE      ?= 1h

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z][a-z0-9_-]*:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/worker
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/worker ./cmd/worker

.PHONY: demo
demo: ## run the main job on an embedded NATS: 10,000 jobs, three services, two replicas
	go run ./cmd/worker demo

.PHONY: test
test: ## all tests, in random order; most of them wait more than they compute, so six at once
	go test -shuffle=on -parallel 6 ./...

.PHONY: race
race: ## all tests under the race detector
	go test -race -shuffle=on -timeout 15m ./...

.PHONY: modules
modules: ## the other modules: CloudEvents SDK, go-httpbin and Standard Webhooks against ours; the contracts against live traffic; rules of the compose file; two builds of a release
	cd interop && go test ./...
	cd test/contracts && go vet ./... && go test -v ./... | grep -vE '^(=== |testing: )'
	cd deploy/composetest && go vet -tags e2e ./... && go test ./...
	cd test/browser && go vet ./...
	cd deploy/release && go vet ./... && go test -timeout 20m ./...

.PHONY: examples
examples: ## every example of a producer and a service, against a pool
	cd examples && go vet ./... && go test -count=1 -v ./... | grep -vE '^(=== |testing: )'

.PHONY: fault
fault: ## real workers and nats-servers as processes, killed, paused, drained and cut off
	@unshare --mount true 2>/dev/null || echo 'NOT TESTED: a really full disk; TestDiskFull needs root to mount a small tmpfs'
	@git describe --tags --match 'v[0-9]*' HEAD^ >/dev/null 2>&1 || git cat-file -e 'fcec40c5932d2e2fa0b80be469c136840338047e^{commit}' 2>/dev/null || echo 'NOT TESTED: old and new replicas in one pool; this clone reaches back neither to a release nor to fcec40c'
	go test -tags fault -count=1 -parallel 6 -timeout 20m ./test/fault ./test/sizing

.PHONY: power
power: ## brokers lose their power: their stores are on a file system that forgets what was not synced
	@[ -w /dev/fuse ] || echo 'NOT TESTED: power loss; it needs /dev/fuse, and root or fusermount3 (Debian: fuse3)'
	cd test/power && go vet ./... && go test -count=1 -v -timeout 10m ./... | grep -vE '^(=== |testing: )'

.PHONY: soak
soak: ## load and random faults on real processes for MINUTES (default 20)
	go test -tags fault -count=1 -v -timeout 24h -run '^TestSoak$$' ./test/fault -minutes $(MINUTES)

.PHONY: outage
outage: ## a service refuses connections for OUTAGE (default 1h), with 20 and with 5,000 jobs waiting
	go test -tags fault -count=1 -v -timeout 24h -run '^TestOutage$$' ./test/fault -outage $(OUTAGE)

.PHONY: browser
browser: ## the pages in a real Chromium: what they show when things are gone, widths, keyboard, axe-core
	@scripts/browser.sh

.PHONY: screenshots
screenshots: ## renew the pictures in docs/images
	@scripts/browser.sh -run Screenshots -screenshots "$(CURDIR)/docs/images"

.PHONY: chart
chart: ## the Helm chart: lint, values schema, golden files, kubeconform
	cd deploy/helm/charttest && go vet ./... && go test -count=1 ./...

.PHONY: up
up: ## docker compose up, and what to look at
	scripts/up.sh

.PHONY: e2e
e2e: ## docker compose under a real engine: scale, kill, restart, drain, and judge the history
	scripts/e2e.sh

.PHONY: fmt
fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

.PHONY: lint
lint: ## gofmt, golangci-lint (.golangci.yml), subjects of commits
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi
	@if ! git merge-base --is-ancestor $(SUBJECTS) HEAD 2>/dev/null; then echo 'NOT CHECKED: subjects of commits; this clone does not reach back to $(SUBJECTS)'; else \
	  long=$$(git log --format='%s' $(SUBJECTS)..HEAD | awk 'length > 72'); if [ -n "$$long" ]; then echo "subjects of commits longer than 72 characters:"; echo "$$long"; exit 1; fi; fi
	go run $(GOLANGCI) run ./...

.PHONY: bench
bench: ## every workload against the hand-written floor, in one run
	go run ./bench

.PHONY: guard
guard: ## ten seconds: processor time per job against the floor, for CI
	go run ./bench guard

.PHONY: profile
profile: ## profiles of W1 into out/: the worker's CPU, heap, mutex, block, the broker's CPU
	go run ./bench profile

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each (default 20s)
	@for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' internal cmd | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$dir/*_test.go | cut -d' ' -f2); do \
	    echo "== $$dir $$target"; go test ./$$dir -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME); \
	  done; \
	done

.PHONY: sim
sim: ## SEEDS seeds of the simulation (default 100000), from seed FIRST on (default 1)
	go test ./internal/sim -count=1 -timeout 24h -seeds $(SEEDS) -first $(FIRST)

.PHONY: mutants
mutants: ## plant one bug per promise; every one must turn the tests red
	go run ./internal/mutants

.PHONY: vuln
vuln: ## known vulnerabilities in what we depend on; needs vuln.go.dev
	@tool=$$(mktemp -d); trap 'rm -rf "$$tool"' EXIT; GOBIN=$$tool go install $(GOVULNCHECK); \
	  code=0; "$$tool/govulncheck" ./... || code=$$?; \
	  case $$code in 0|3) ;; *) echo 'NOT CHECKED: govulncheck got no answer, most likely because vuln.go.dev cannot be reached from here' ;; esac; exit $$code

.PHONY: release
release: ## binaries, images, chart, SBOMs, provenance and checksums into dist/, the same bytes for the same commit
	rm -rf dist
	cd deploy/release && go run . -out ../../dist -version $(VERSION) -revision $(REVISION)

.PHONY: sbom
sbom: ## software bills of materials (CycloneDX) into dist/
	cd deploy/release && go run . -sbom -out ../../dist -version $(VERSION) -revision $(REVISION)

.PHONY: servers
servers: ## the core of the process tests on every supported series of nats-server, into docs/releases.md
	go run ./internal/servers -update docs/releases.md

.PHONY: tidy
tidy: ## go.mod and go.sum say what the code needs
	go mod tidy -diff
	cd interop && go mod tidy -diff
	cd deploy/composetest && go mod tidy -diff
	cd deploy/helm/charttest && go mod tidy -diff
	cd test/browser && go mod tidy -diff
	cd test/power && go mod tidy -diff
	cd test/contracts && go mod tidy -diff
	cd examples && go mod tidy -diff
	cd deploy/release && go mod tidy -diff
	go mod verify

.PHONY: check
check: lint tidy race modules ## what CI runs after make test
