# Latchkey. `make help` lists the targets.

GO        ?= go
DATA      ?= ./demo-data
PORT_BASE ?= 2000
FUZZTIME  ?= 60s
REF       ?= HEAD~1
BENCHTIME ?= 3s
ROUNDS    ?= 3
SCALE     ?= 1

GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
BENCHSTAT   := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)

# cmd/latchkey/default.pgo makes every package be compiled once more: worth it for the program, not for its tests.
NOPGO := -pgo off

# The linters look at packages as the tests have them: without the profile, which would have all compiled twice.
LINTS := GOFLAGS="$$($(GO) env GOFLAGS) -pgo=off"

# `make lint` has vetted.
NOVET := -vet=off

# The server under the real programs and the tortures is compiled as `make build` compiles it, with the profile, and once for both.
DELIVERED := CGO_ENABLED=0 $(GO) test -trimpath -tags interop,torture -count=1

# Packages are tested in the order in which they are named: the longest first, so that no core waits for it at the end.
LONGEST := ./store/boltstore ./cmd/latchkey

# The race detector makes what has no goroutines many times slower and finds nothing there. So the packages that have tests which do less with
# -short are tested with it and -short, and without it whole; and of cmd/latchkey, those tests that it does not even build (TestShortenedPackages).
UNWATCHED := ^(TestIdleSession|TestYearInShort)$$
SHORTENED := ./store/boltstore ./internal/journal ./internal/archive ./store/memstore ./store ./smtp ./webmanager/pages

# The race detector needs cgo and a C compiler. Without one the tests still run, and say so.
HAVE_CC := $(shell command -v $${CC:-cc} 2>/dev/null || command -v gcc 2>/dev/null)
ifneq ($(HAVE_CC),)
RACE := -race
else
RACE :=
endif

# Mounts in a name space of their own go with it, also when a torture is itself killed.
PRIVATE = $(shell unshare -m true 2>/dev/null && echo unshare -m)

.PHONY: help build run compile test race check lint fuzz bench growth bench-compare pgo cover interop browser gallery torture vuln clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' Makefile

build: ## Build bin/latchkey, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/latchkey ./cmd/latchkey

run: build ## Run a demo domain on loopback (DATA=./demo-data PORT_BASE=2000)
	./bin/latchkey demo --data $(DATA) --port-base $(PORT_BASE)

compile: ## Compile what `make test` tests with the race detector, and link nothing
	$(GO) list $(NOPGO) $(RACE) -export -test -deps ./... >/dev/null

test: ## Run all tests, with the race detector where a C compiler is found (what is long with it: a part with, all without)
ifeq ($(RACE),)
	@if [ "$$CI" = true ]; then echo "make test: CI needs a C compiler for the race detector" >&2; exit 1; fi
	@echo "make test: no C compiler found, so without the race detector"
endif
ifeq ($(RACE),)
	$(GO) test $(NOPGO) $(NOVET) -shuffle=on -timeout 10m $(LONGEST) ./...
else
	$(GO) test $(NOPGO) $(NOVET) -race -short -shuffle=on -timeout 10m $(LONGEST) ./...
	$(GO) test $(NOPGO) $(NOVET) -shuffle=on -timeout 10m $(SHORTENED)
	$(GO) test $(NOPGO) $(NOVET) -run '$(UNWATCHED)' ./cmd/latchkey
endif

race: ## Run all tests whole with the race detector, or fail for want of a C compiler
	CGO_ENABLED=1 $(GO) test $(NOPGO) -race -shuffle=on -timeout 20m $(LONGEST) ./...

check: lint test ## The gate: linters, then all tests

lint: ## gofmt, go vet, staticcheck, golangci-lint
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted" >&2; exit 1; fi
	$(LINTS) $(GO) vet ./...
	$(LINTS) $(GO) vet -tags interop,torture,pgo ./cmd/latchkey
	$(LINTS) $(GO) run $(STATICCHECK) -tags interop,torture,pgo ./...
	$(LINTS) $(GO) run $(GOLANGCI) run --allow-parallel-runners ./...

fuzz: ## Run every fuzz target for FUZZTIME (60s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

bench: ## Go benchmarks; with BENCH_TOOLS=dir beside Postfix and Dovecot instead (ROUNDS, PARTS, SCALE, DOCS)
ifeq ($(BENCH_TOOLS),)
	@echo "machine: $$(nproc) cores, $$(awk -F': ' '/model name/{print $$2; exit}' /proc/cpuinfo), $$(awk '/MemTotal/{printf "%.0f GiB", $$2/1048576}' /proc/meminfo), $$(uname -sr)"
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...
else
	$(GO) run ./cmd/latchkey/bench -tools "$(BENCH_TOOLS)" -parts "$(or $(PARTS),a b c d g h i)" -rounds $(ROUNDS) -scale $(SCALE) -docs "$(DOCS)"
endif

growth: ## Latency, start and disk with ever more messages, a long queue, the pages (LATCHKEY_GROWTH=1000000, PARTS="e f j k", DOCS)
	$(GO) run ./cmd/latchkey/bench -parts "$(or $(PARTS),e f j k)" -tools "$(BENCH_TOOLS)" -rounds 1 -scale $(SCALE) -docs "$(DOCS)"

bench-compare: ## Compare the benchmarks of this tree with those of REF (HEAD~1)
	@tmp=$$(mktemp -d); trap 'git worktree remove --force "$$tmp/ref" 2>/dev/null; rm -rf "$$tmp"' EXIT; \
	git worktree add --quiet "$$tmp/ref" $(REF); \
	for i in 1 2 3 4 5; do \
	  (cd "$$tmp/ref" && $(GO) test -run '^$$' -bench . -benchmem -benchtime 1s ./...) >>"$$tmp/old.txt"; \
	  $(GO) test -run '^$$' -bench . -benchmem -benchtime 1s ./... >>"$$tmp/new.txt"; \
	done; $(GO) run $(BENCHSTAT) "$$tmp/old.txt" "$$tmp/new.txt"

pgo: ## Remake cmd/latchkey/default.pgo, which every build uses, from a server at work
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; set -e; \
	LATCHKEY_PROFILE="$$tmp/raw" $(GO) test $(NOPGO) -tags pgo -count=1 -timeout 5m -run '^TestProfile$$' ./cmd/latchkey; \
	$(GO) tool pprof -proto -symbolize none -focus '^latchkey/(auth|guard|internal|pop3|relay|smtp|store)/?|emersion/go-smtp' -ignore resolvertest \
	  -output "$$tmp/pgo" "$$tmp/raw" 2>/dev/null; \
	test -s "$$tmp/pgo" && mv "$$tmp/pgo" cmd/latchkey/default.pgo && ls -l cmd/latchkey/default.pgo

cover: ## Coverage by package
	$(GO) test $(NOPGO) -coverprofile=coverage.out ./... && $(GO) tool cover -func=coverage.out | tail -1

interop: ## Real mail clients against the demo (Debian packages: .ci/interop-packages; LATCHKEY_BROWSER=regexp for a part of the pages, LATCHKEY_TESTSSL of the doors)
	$(DELIVERED) -parallel 6 -timeout 40m -run Interop ./cmd/latchkey

browser: ## The pages in a browser, all of it
	$(DELIVERED) -timeout 15m -run 'TestInterop(Browser|Wapiti)' ./cmd/latchkey

gallery: ## Remake the pictures of docs/gallery.md (Debian's chromium-headless-shell, Node.js)
	LATCHKEY_GALLERY=$(CURDIR)/docs/gallery LATCHKEY_BROWSER='^every page' $(DELIVERED) -timeout 15m -run '^TestInteropBrowser$$' ./cmd/latchkey

torture: ## Kills, power cuts, failing syscalls, memory (root; LATCHKEY_TORTURE=short for less)
	$(GO) test $(NOPGO) -tags torture -count=1 -timeout 10m -run Torture -v ./guard
	$(PRIVATE) env $(DELIVERED) -timeout 60m -run Torture -v ./cmd/latchkey

vuln: ## Known vulnerabilities of the dependencies
	@$(GO) run $(GOVULNCHECK) ./... || echo "make vuln: not run, or it found something: see above (its database must be within reach)"

clean: ## Remove what was built; demo data stays
	rm -rf bin coverage.out
