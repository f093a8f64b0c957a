# Every command of the project. `make help` lists them; `make check` is what CI runs.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Modules with code. Tools are pinned in tools/, outside the library's module graph.
MODULES := . cmd/poolkeeper config examples examples/longlived examples/probes faults health/grpchealth integration/asynq integration/browser integration/metrics integration/schema integration/sql integration/tracing lifecycle/grpcclient lifecycle/grpcserver metrics ops otelmetrics streams streams/ginstreams
# Modules outside the workspace: the peers, and Argo Rollouts with all of Kubernetes, must not take part in version selection.
APART := bench examples/kubernetes

# The race detector needs cgo, and so a C compiler; without one the tests run without it.
CC_FOUND := $(shell command -v "$$(go env CC | cut -d' ' -f1)" 2>/dev/null)
RACE     := $(if $(CC_FOUND),-race,)
export CGO_ENABLED := $(if $(CC_FOUND),1,0)

# Tests mostly wait for servers: without the slow ones, more packages run at once than there are cores.
ATONCE := $(if $(POOLKEEPER_FULL),,-p 4)

BENCHTIME ?= 1s

TOOLS := bin/golangci-lint bin/gofumpt bin/gotestsum bin/govulncheck bin/apidiff

.PHONY: help test check fmt fmt-check lint vet tidy tidy-check race test-fleet faults test-clock test-pgo test-noinline test-kubernetes bench bench-peers bench-outage test-peers bench-smoke examples fuzz fuzz-smoke cover api api-diff vuln run clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## The quickstart: a small service on embedded servers
	go run ./examples/quickstart

test: bin/gotestsum ## The tests, in some 3 minutes: without slow ones (POOLKEEPER_FULL=1 runs all), and without what needs a missing server
	@begun=$$SECONDS; slow=0; missing=0; mkdir -p .cache; \
	for m in $(MODULES); do \
		echo "== module $$m"; \
		(cd $$m && "$(CURDIR)/bin/gotestsum" --format pkgname --hide-summary=skipped --jsonfile "$(CURDIR)/.cache/test.json" -- $(RACE) $(ATONCE) ./...); \
		slow=$$((slow + $$(grep -c 'left out: it is slow' .cache/test.json || true))); \
		missing=$$((missing + $$(grep -c 'needs a real server' .cache/test.json || true))); \
	done; \
	echo "in $$((SECONDS - begun)) s; left out: $$slow slow tests (POOLKEEPER_FULL=1 runs them), $$missing whose server is missing"

check: fmt-check vet tidy-check lint race test-fleet test-clock test-pgo test-noinline test-peers test-kubernetes bench-smoke fuzz-smoke ## Everything CI runs

fmt: bin/gofumpt bin/golangci-lint ## Format the code
	bin/gofumpt -extra -l -w .
	bin/golangci-lint fmt

fmt-check: bin/gofumpt ## Fail if a file is not formatted
	@out=$$(bin/gofumpt -extra -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted (make fmt):"; echo "$$out"; exit 1; fi

lint: bin/golangci-lint ## The linters, in every module
	@for m in $(MODULES) $(APART); do \
		echo "lint $$m"; \
		(cd $$m && GOWORK=off "$(CURDIR)/bin/golangci-lint" run --allow-parallel-runners --config "$(CURDIR)/.golangci.yml" ./...); \
	done

vet: ## go vet, in every module, and for other systems
	@for m in $(MODULES); do (cd $$m && go vet ./...); done
	@for m in $(APART); do (cd $$m && GOWORK=off go vet ./...); done
	@for t in linux/386 windows/amd64 darwin/arm64 freebsd/amd64; do \
		echo "vet for $$t"; CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} go vet ./...; \
	done

api: ## Write the baseline of the exported API, docs/api, anew
	go test -run 'TestExportedAPI' . -update

BASE ?= main
api-diff: bin/apidiff ## What has changed in the exported API since BASE: compatible or not
	@old=$$(mktemp -d); trap 'git worktree remove --force "$$old/tree"; rm -rf "$$old"' EXIT; \
	git worktree add -q --detach "$$old/tree" $(BASE); \
	(cd "$$old/tree" && GOWORK=off "$(CURDIR)/bin/apidiff" -m -w "$$old/api" github.com/poolkeeper/poolkeeper 2>/dev/null); \
	GOWORK=off bin/apidiff -m "$$old/api" github.com/poolkeeper/poolkeeper 2> >(grep -v "^Ignoring internal" >&2)

vuln: bin/govulncheck ## Known vulnerabilities in what the modules call; asks vuln.go.dev
	@for m in $(MODULES); do echo "vuln $$m"; (cd $$m && "$(CURDIR)/bin/govulncheck" ./...); done

tidy: ## go mod tidy, in every module
	@for m in $(MODULES) $(APART) tools; do (cd $$m && GOWORK=off go mod tidy); done

tidy-check: ## Fail if go.mod or go.sum of a module is not tidy
	@for m in $(MODULES) $(APART) tools; do echo "tidy $$m"; (cd $$m && GOWORK=off go mod tidy -diff); done

race: bin/gotestsum ## All tests, slow ones too, under the race detector; a missing server or C compiler is a failure
	@test -n "$(RACE)" || { echo "make race: the race detector needs a C compiler"; exit 1; }
	@for m in $(MODULES); do \
		echo "== module $$m"; \
		(cd $$m && POOLKEEPER_FULL=1 "$(CURDIR)/bin/gotestsum" --format pkgname -- -race ./...); \
	done

test-fleet: ## 125 instances of a service through cold start, failover and the like, on virtual time
	cd faults && go test ./fleet

faults: ## All faults at full length, raw beside managed: docs/faults.md, and the tables of docs/reliability.md (some 90 minutes)
	cd faults && POOLKEEPER_MEASURE="$(CURDIR)/docs/charts" go test -v -run TestTable -timeout 120m ./fleet
	cd faults && POOLKEEPER_FULL=1 POOLKEEPER_MEASURE="$(CURDIR)/docs" go test -v -timeout 120m ./suite

test-clock: ## The pools while the wall clock is set back and forth
	@mkdir -p .cache/clock
	@awk '{ print } /^\tsec, nsec, mono := runtimeNow\(\)$$/ { print "\tsec += wallStep.Load()" }' "$$(go env GOROOT)/src/time/time.go" >.cache/clock/time.go
	@grep -q wallStep .cache/clock/time.go || { echo "package time of this Go cannot be patched"; exit 1; }
	@cp integration/clock/wallstep.go.txt .cache/clock/wallstep.go
	@printf '{"Replace": {"%s/src/time/time.go": "%s/.cache/clock/time.go", "%s/src/time/wallstep.go": "%s/.cache/clock/wallstep.go"}}\n' \
		"$$(go env GOROOT)" "$(CURDIR)" "$$(go env GOROOT)" "$(CURDIR)" >.cache/clock/overlay.json
	CGO_ENABLED=0 go test -count=1 -tags wallstep -overlay .cache/clock/overlay.json ./integration/clock

test-pgo: ## The sessions of redispool, built by a profile of their own
	@mkdir -p .cache/pgo
	go test -run '^$$' -bench Sessions -benchtime 5s -cpuprofile .cache/pgo/sessions.pgo -o .cache/pgo/sessions.test ./integration/pgo
	go test -count=1 -pgo "$(CURDIR)/.cache/pgo/sessions.pgo" ./integration/pgo

test-noinline: ## The sessions of redispool, built without inlining
	go test -count=1 -gcflags=all=-l ./integration/pgo
	go test -count=1 -gcflags=all=-l -run 'Watch|Conn|Session|Drain|Holder|Leak|GoRedis|Hook' ./redispool

bench: ## All benchmarks (BENCHTIME=1s)
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

bench-peers: ## The tables of docs/benchmarks.md: the library beside its peers
	cd bench && GOWORK=off go run ./registry && GOWORK=off go run ./probes

test-peers: ## The trials, with the peers: they fail where docs/benchmarks.md says so
	cd bench && GOWORK=off go test -count=1 ./...

test-kubernetes: ## The manifests of examples/kubernetes, and the program in each of its environments
	cd examples/kubernetes && GOWORK=off POOLKEEPER_FULL=1 go test $(RACE) -count=1 ./...

bench-outage: ## What a call costs while its server is gone, raw beside managed (some 15 minutes)
	POOLKEEPER_FULL=1 POOLKEEPER_MEASURE=1 go test -run '^$$' -bench Outage -benchtime 1x -timeout 60m ./integration/outage

# Benchmarks that are faults: the tests of faults/suite go through these.
SCENARIOS := ^Benchmark(Ablation|Burst|DialStorm|Failover|Faults|Outage)$$

bench-smoke: ## Compile every benchmark, and run each once but for faults
	@for m in $(MODULES); do (cd $$m && go test -run '^$$' -bench . -skip '$(SCENARIOS)' -benchtime 1x ./... >/dev/null); done; echo "benchmarks: each ran once"

examples: ## Run the examples: those in the docs and the programs
	go test -count=1 -run '^Example' ./...
	cd examples && go test -count=1 ./...

fuzz: ## Fuzz every target of every module, one after the other (FUZZTIME=1m)
fuzz: FUZZTIME ?= 1m

fuzz-smoke: ## The same, briefly (FUZZTIME=50x)
fuzz-smoke: FUZZTIME ?= 50x

# Each package is linked once. What the fuzzer finds interesting is kept where `go test -fuzz` keeps it; an input that
# fails is written to testdata/fuzz of its package, to be committed with the fix. At the end of its time, package testing
# sometimes says "context deadline exceeded" instead of PASS, without such an input.
fuzz fuzz-smoke:
	@begun=$$SECONDS; targets=0; mkdir -p .cache/fuzz; \
	for d in $$(git grep -l --untracked '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do \
		p=$$(cd $$d && go list .); bin="$(CURDIR)/.cache/fuzz/fuzz.test"; \
		(cd $$d && go test -c -fuzz . -o "$$bin" .); \
		for f in $$(cd $$d && "$$bin" -test.list '^Fuzz'); do \
			echo "fuzz $$p $$f"; targets=$$((targets + 1)); \
			(cd $$d && "$$bin" -test.run '^$$' -test.fuzz "^$$f$$" -test.fuzztime $(FUZZTIME) -test.fuzzminimizetime 1s -test.parallel 2 \
				-test.fuzzcachedir "$$(go env GOCACHE)/fuzz/$$p" >"$(CURDIR)/.cache/fuzz/log" 2>&1) || \
				{ grep -q 'context deadline exceeded' .cache/fuzz/log && ! grep -q 'Failing input' .cache/fuzz/log; } || \
				{ cat .cache/fuzz/log; echo "make $@: $$f of $$p failed"; exit 1; }; \
			grep 'elapsed' .cache/fuzz/log | sed '$$!d'; \
		done; \
	done; \
	echo "fuzz: $$targets targets in $$((SECONDS - begun)) s"

cover: ## Coverage of the library by all its tests: coverage.out
	go test -coverpkg=./... -coverprofile=coverage.out ./...
	go tool cover -func=coverage.out | tail -1

clean: ## Remove what was built
	rm -rf bin coverage.out

$(TOOLS): tools/go.mod
	cd tools && GOWORK=off GOBIN="$(CURDIR)/bin" go install $$(GOWORK=off go list tool | grep "/$(notdir $@)$$")
	@touch $@
