# linecard: `make up` runs the whole system, `make test` tests it.

LINT_VERSION := v2.15.0
LINT := $(shell go env GOPATH)/bin/golangci-lint
VERSITYGW_VERSION := v1.8.0
VERSITYGW := $(shell go env GOPATH)/bin/versitygw
FUZZTIME ?= 150s
SCHEDULES ?= 1000
DATA ?= ./data
LISTEN ?= 127.0.0.1:7400
ADMIN ?= 127.0.0.1:7401

# What a session may take at 15,000: all servers with their empty base, the gateway, router and offline above it. Bytes, never time.
BUDGETS ?= --assert 'sessions>=15000' --assert 'lost<=0' --assert 'user_bytes_per_session<=5500' --assert 'gateway_marginal_bytes<=700' \
	--assert 'router_bytes<=1500' --assert 'offline_bytes<=900'

# What a relay's allocation may take from 50 to 1,000 of them. Bytes, never time.
RELAY_BUDGETS ?= --assert 'allocations>=1000' --assert 'turnd_allocation_bytes<=16000' --assert 'turnd_paced_rate>=1'

.PHONY: up build test test-long simulation interop race lint fuzz bench bench-micro generate ci cross clean

up: build ## build and run the whole system, data under ./data
	./bin/linecard up --data $(DATA) --listen $(LISTEN) --admin $(ADMIN)

build: ## bin/linecard
	@mkdir -p bin
	go build -buildvcs=auto -o bin/linecard ./cmd/linecard

test: $(VERSITYGW) ## every test, as CI runs them
	go test -vet off -timeout 25m ./internal/testkit ./... # the longest first, beside the others; lint vets

simulation: ## clusters in simulated time, more schedules than in test
	LINECARD_SCHEDULES=$(SCHEDULES) go test -count=1 -v -run '^TestSchedules$$' ./internal/simtest

interop: ## clients that others wrote: tus-js-client (needs node, npm) and curl against mediad, coturn's and pion/webrtc against turnd
	cd mediad/testdata/tus && npm ci --ignore-scripts --no-audit --no-fund
	LINECARD_INTEROP=1 go test -count=1 -v -run '^(TestTusJS|TestCurl)$$' ./mediad
	LINECARD_INTEROP=1 go test -count=1 -run '^(TestCoturnClient|TestWebRTC)$$' ./turnd

race: ## the tests of concurrent code under the race detector
	go test -race -short -vet off ./internal/shard ./gateway/... ./router ./offline ./mediad ./turnd ./internal/link ./internal/slab ./internal/admin # the longest first, too

test-long: ## full counts: minutes to hours
	LINECARD_LONG=1 go test -count=1 -timeout 4h -v ./internal/testkit/... ./internal/simtest ./internal/planted ./offline/... ./router/... ./turnd/...
	$(MAKE) fuzz FUZZTIME=1h

lint: $(LINT) ## gofmt, vet and golangci-lint
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt: the files above are not formatted"; exit 1; }
	go vet ./...
	$(LINT) run ./...
	cd turnd/testdata/webrtc && go vet ./... && $(LINT) run ./...

$(LINT):
	go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

$(VERSITYGW): # the S3 server of mediad's tests
	go install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)

fuzz: ## all fuzz targets together for FUZZTIME
	@./.ci/fuzz $(FUZZTIME)

bench: build ## 15,000 idle sessions, both ends here, within their budgets of bytes; a relay, in small; reports in bench/out
	./bin/linecard bench density --sessions 15000 --out bench/out $(BUDGETS)
	./bin/linecard bench relay --allocations 1000 --rounds 1 --time 300ms --out bench/out/relay $(RELAY_BUDGETS)

bench-micro: ## codec and crypto
	go test -run '^$$' -bench . -benchmem ./bench ./internal/stanza ./internal/wire

generate: ## tokens and reasons
	go generate ./...

cross: ## the binary for the other systems it is meant for
	GOOS=freebsd GOARCH=amd64 go build -o /dev/null ./cmd/linecard
	GOOS=freebsd GOARCH=arm64 go build -o /dev/null ./cmd/linecard
	GOOS=linux GOARCH=arm64 go build -o /dev/null ./cmd/linecard
	GOOS=freebsd GOARCH=amd64 go vet ./... # tests too compile there

ci:
	./.ci/run

clean:
	rm -rf bin
