# Keystone. `make demo` and `make test` need Go alone; `make help` lists the rest.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Cloud Storage is spoken to by HTTP; what gRPC would need beside it is 13 MB (docs/decisions/0016).
TAGS    := disable_grpc_modules
LDFLAGS := -s -w -X keystone/cmd/internal/cli.version=$(VERSION)
BIN     := bin/keystone
CACHE   := $(CURDIR)/.cache

# Tools, pinned here so that go.mod stays the product's own.
GOLANGCI_VERSION := v2.12.2
GOLANGCI := $(CACHE)/bin/golangci-lint-$(GOLANGCI_VERSION)

# The packages whose tests race: everything that shares memory.
PACKAGES := ./...
FUZZTIME ?= 20s

RELOADS ?= 1000
SEEDS ?= 300
SEED ?= 0
DURATION ?= 15m
FAULTS ?=

.PHONY: help build demo test race sim regressions mutants lint docs check examples fuzz bench e2e servers chaos reloads ci clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

build: ## build bin/keystone, one static binary
	CGO_ENABLED=0 go build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/keystone

demo: build ## run the main job on the embedded broker for a few seconds
	@examples/playback/demo.sh $(BIN)

test: ## run the tests that need Go alone
	go test $(PACKAGES)

race: ## run the tests with the race detector
	go test -race $(PACKAGES)

sim: ## play SEEDS histories of crashes, rebalances and errors in fake time, or SEED alone
	@mkdir -p $(CACHE)/sim
	go vet -tags synctests ./pipeline/sim ./sources/kafka
	go test -c -tags synctests -o $(CACHE)/sim.test ./pipeline/sim
	cd pipeline/sim && $(CACHE)/sim.test -test.run '^TestSeeds$$' -test.timeout 120m -seeds $(SEEDS) -seed $(SEED) -trace $(CACHE)/sim

regressions: ## play the seeds that failed once, and 20 twice
	@mkdir -p $(CACHE)/sim
	go test -count=1 -v -tags synctests -run 'TestRegressions|TestTraces' ./pipeline/sim -args -trace $(CACHE)/sim
	go test -count=1 -tags synctests -run '^TestSim' ./sources/kafka

mutants: ## make each deliberate mistake in the protocol; the simulation has to find it
	@mkdir -p $(CACHE)/sim
	go test -c -tags 'synctests mutation' -o $(CACHE)/mutants.test ./pipeline/sim
	cd pipeline/sim && $(CACHE)/mutants.test -test.run '^TestMutants$$' -test.timeout 60m -seeds $(SEEDS) -trace $(CACHE)/sim

lint: $(GOLANGCI) ## run go vet and golangci-lint
	go vet $(PACKAGES)
	GOLANGCI_LINT_CACHE=$(CACHE)/golangci-lint $(GOLANGCI) run

$(GOLANGCI):
	GOBIN=$(CACHE)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(CACHE)/bin/golangci-lint $@

docs: build ## generate docs/reference from the declarations
	rm -rf docs/reference
	$(BIN) docs -out docs/reference

check: build ## fail on unformatted files, a stale reference, an untidy go.mod
	@test -z "$$(gofmt -l cmd configs dsl pipeline reconcile sinks sources)" || { echo 'not gofmt clean:'; gofmt -l cmd configs dsl pipeline reconcile sinks sources; exit 1; }
	go mod tidy -diff
	@rm -rf $(CACHE)/reference && $(BIN) docs -out $(CACHE)/reference
	@diff -ru docs/reference $(CACHE)/reference || { echo 'docs/reference is stale: run make docs'; exit 1; }
	$(BIN) fmt -check -recursive examples

examples: build ## run every example and compare its output
	go test -count=1 ./cmd/internal/examples

fuzz: ## run every fuzz target for FUZZTIME
	@go list ./... | while read -r p; do \
	  for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "== $$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; \
	  done; done

bench: build ## measure, print a table, write .cache/bench.json
	go run ./cmd/internal/bench -out $(CACHE)/bench.json

e2e: build ## start real servers and run the tests against them; NEED=all makes it an error if one cannot be had
	.testenv/with-all $(if $(NEED),--need $(NEED)) go test -count=1 -timeout 40m -run 'Real' ./...

servers: ## fetch the real servers of e2e, and check that they are what its tests expect
	.testenv/with-all --fetch
	.testenv/kafka.sh check
	.testenv/elasticsearch.sh check
	.testenv/hive-metastore.sh check
	.testenv/s3.sh check
	.testenv/gcs.sh check
	.testenv/azure.sh check
	.testenv/readers.sh check

chaos: build ## break three real brokers, workers and edits for DURATION, as SEED chooses (0: by chance), of those like FAULTS
	KEYSTONE_CHAOS=$(DURATION) KEYSTONE_CHAOS_SEED=$(SEED) KEYSTONE_CHAOS_FAULTS='$(FAULTS)' .testenv/with-kafka go test -count=1 -v -timeout 120m -run '^TestRealChaos$$' ./cmd/internal/e2e

reloads: build ## edit a route RELOADS times while events flow, and measure the pauses
	KEYSTONE_RELOADS=$(RELOADS) .testenv/with-kafka go test -count=1 -timeout 90m -v -run '^TestReal(Reloads|Redeploys)$$' ./cmd/internal/e2e

ci: ## what a change must pass
	$(MAKE) check lint
	$(MAKE) test
	$(MAKE) race PACKAGES='./pipeline/... ./reconcile/... ./sources/... ./sinks/... ./cmd/...'
	$(MAKE) regressions sim mutants SEEDS=300
	$(MAKE) examples demo
	$(MAKE) e2e NEED=all

clean: ## remove what was built
	rm -rf bin $(CACHE)
