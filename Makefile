# Every target here runs the same on a workstation and in CI (.ci/run).

# Tools are pinned here and nowhere else; a new version gets a new folder under .tools/.
GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.9.0
TYPESCRIPT_VERSION    := 5.9.3
AXE_CORE_VERSION      := 4.14.1

GOLANGCI_LINT := $(CURDIR)/.tools/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint
GOVULNCHECK   := $(CURDIR)/.tools/govulncheck-$(GOVULNCHECK_VERSION)/govulncheck
TSC           := $(CURDIR)/.tools/typescript-$(TYPESCRIPT_VERSION)/node_modules/.bin/tsc
AXE_CORE      := $(CURDIR)/.tools/axe-core-$(AXE_CORE_VERSION)/node_modules/axe-core/axe.min.js

TEST_TIMEOUT ?= 30m

# How long each fuzz target is fuzzed; a number of inputs is 10000x.
FUZZTIME ?= 1m

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: ci
ci: build tidy-check lint web-check vuln bench-short test fuzz ## Run everything that the gate runs

.PHONY: build
build: ## Build every package, and the binary into bin/
	go build -o bin/ ./...

.PHONY: test
test: $(AXE_CORE) ## Run the tests with the race detector, in random order
	go test -race -shuffle=on -count=1 -timeout=$(TEST_TIMEOUT) ./...

# Everything between server, database and clients is broken, for minutes, and what was committed is compared with what
# each client saw. FAULTS_SOAK=1h goes on at random for that long. `make test` tries the same in few rounds.
FAULTS_SOAK ?= 0s

.PHONY: test-faults
test-faults: ## Run the fault suite at length; FAULTS_SOAK=1h for longer
	go test -race -count=1 -v -timeout=$(if $(filter 0s,$(FAULTS_SOAK)),30m,0) ./faults -full -soak=$(FAULTS_SOAK) $(FAULTS_FLAGS) | grep -v '^=== '

# `make test` has the updates for a few seconds.
.PHONY: test-dashboard
test-dashboard: $(AXE_CORE) ## Run the browser tests at length: 500 updates a second for 30 s
	go test -count=1 -v -timeout=$(TEST_TIMEOUT) -run '^TestDashboard' . -dashboard-burst=30s | grep -v '^=== '

.PHONY: screenshots
screenshots: ## Make the pictures in docs/screenshots anew
	mkdir -p docs/screenshots
	go test -count=1 -run '^TestDashboard_Screenshots$$' . -screenshots=$(CURDIR)/docs/screenshots

# The server is attacked over the network, with all of the junk; `make test` sends less of it.
JUNK ?= 100000

.PHONY: test-attacks
test-attacks: ## Attack the server over the network; JUNK=1000000 for more junk
	go test -race -count=1 -v -timeout=$(TEST_TIMEOUT) . -run '^TestAttack_' -junk=$(JUNK) | grep -v '^=== '

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Check format, imports and code
	$(GOLANGCI_LINT) run

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the code
	$(GOLANGCI_LINT) fmt

.PHONY: web-check
web-check: $(TSC) ## Check the types of the dashboard's scripts
	$(TSC) --project web/jsconfig.json

.PHONY: axe-core
axe-core: $(AXE_CORE) ## Fetch the checker of accessibility that the browser tests use

.PHONY: web-vendor
web-vendor: ## Fetch the dashboard's libraries anew, as web/vendor.sh pins them
	web/vendor.sh

.PHONY: tidy-check
tidy-check: ## Check that go.mod and go.sum are tidy
	go mod tidy -diff

# govulncheck ends with 1 for an error and with 3 for a finding. One error is forgiven: the database could not be dialled.
.PHONY: vuln
vuln: $(GOVULNCHECK) ## Look for known vulnerabilities in what the code calls
	@status=0; out=$$($(GOVULNCHECK) ./... 2>&1) || status=$$?; \
	printf '%s\n' "$$out"; \
	unreachable='^govulncheck: fetching vulnerabilities: Get "https://vuln\.go\.dev/[^"]*": dial tcp'; \
	if [[ $$status -eq 1 ]] && grep -q "$$unreachable" <<<"$$out"; then \
		echo 'vulnerability data out of reach: not checked'; \
	else \
		exit $$status; \
	fi

.PHONY: fuzz
fuzz: ## Fuzz all targets at once for FUZZTIME
	.ci/fuzz '$(FUZZTIME)'

# Linux only; takes minutes, and wants the machine for itself.
.PHONY: bench
bench: ## Measure speed and size beside the machine's limits, and print them with the goals
	go run ./bench/table
	bench/polling/run

# Linux only, too, but it stands other work on the machine. Allocations are counted here because the race detector, which
# `make test` has, adds some. `go run ./bench/table -short -record` records anew.
.PHONY: bench-short
bench-short: ## Measure a few ratios in less than a minute, and fail when one is a quarter worse than recorded
	go test -count=1 -run AllocatesNothing ./broadcast ./http
	go run ./bench/table -short

.PHONY: bench-growth
bench-growth: ## Draw how cost grows, into docs/plots
	go test -run '^$$' -bench Growth -count 3 -timeout=$(TEST_TIMEOUT) ./broadcast | go run ./bench/plot docs/plots

.PHONY: clean
clean: ## Remove what the targets made
	rm -rf bin .tools

$(GOLANGCI_LINT):
	GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

$(GOVULNCHECK):
	GOBIN=$(@D) go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)

$(TSC):
	npm install --prefix .tools/typescript-$(TYPESCRIPT_VERSION) --no-audit --no-fund --ignore-scripts --loglevel=error typescript@$(TYPESCRIPT_VERSION)

$(AXE_CORE):
	npm install --prefix .tools/axe-core-$(AXE_CORE_VERSION) --no-audit --no-fund --ignore-scripts --loglevel=error axe-core@$(AXE_CORE_VERSION)
