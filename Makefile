# `make help` lists the targets. Everything that is installed or built lies in .venv or the user's cache.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

UV_VERSION := 0.13.9
PY := .venv/bin/python
DEV := PYTHONPATH=dev $(PY) -m covey_dev
FOUNDRY := $${XDG_CACHE_HOME:-$$HOME/.cache}/covey/tools/foundry-1.7.1
ROOTS := crds contracts operator trainer_image cli dev bench
MEMBERS ?= 3
SEEDS ?= 1
FUZZ_SECONDS ?= 3600
PARTS := $(addprefix tests/,unit fuzz integration/validator)
VALUES ?= charts/covey/ci/default-values.yaml

# Two at a time write to one terminal: line by line, each with a name before it.
whole-lines = sed --unbuffered 's/^/$(1): /'

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.venv/.complete: requirements/dev.txt
	@python3 -m venv --help >/dev/null || { echo "Python 3.11 with venv is needed"; exit 1; }
	[ -x .venv/bin/uv ] || { python3 -m venv --clear .venv && .venv/bin/pip install -q uv==$(UV_VERSION); }
	.venv/bin/uv pip install -q --python $(PY) --require-hashes --compile-bytecode -r requirements/dev.txt
	printf '%s\n' $(addprefix $(CURDIR)/,$(ROOTS)) > "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/covey.pth"
	for name in covey kubectl-covey; do \
	  printf '#!%s\nfrom covey_cli.main import cli\ncli()\n' "$(CURDIR)/$(PY)" > .venv/bin/$$name && chmod +x .venv/bin/$$name; done
	touch $@

.PHONY: venv
venv: .venv/.complete ## Python and everything that development needs, pinned and hashed

.PHONY: chain-tools
chain-tools: venv ## Foundry, solc and OpenZeppelin
	PYTHONPATH=dev $(PY) -c "from covey_dev import foundry; foundry.ensure()"
	mkdir -p contracts/lib
	ln -sfn "$(FOUNDRY)/bin/solc" contracts/lib/solc
	ln -sfn "$(FOUNDRY)/node_modules" contracts/lib/node_modules

.PHONY: tools
tools: chain-tools ## All tools: also Kubernetes, Helm and Debian's packages
	$(DEV) tools

.PHONY: simulate
simulate: chain-tools ## The whole task as local processes, without Kubernetes
	.venv/bin/covey simulate examples/wdbc/task.yaml --members $(MEMBERS) --seeds $(SEEDS)

.PHONY: contracts
contracts: chain-tools ## Build the contracts and carry their ABI into covey_chain
	cd contracts && "$(FOUNDRY)/bin/forge" build
	$(PY) -m covey_chain.abi --write

.PHONY: generate
generate: contracts ## Regenerate everything that is generated and committed
	$(PY) -m covey_api.crd --write
	$(PY) -m covey_api.reference --write
	$(PY) charts/generate_dashboards.py --write
	$(PY) -m covey_exchange.proto.generate

.PHONY: requirements
requirements: venv ## Resolve the requirement files anew
	for extra in operator trainer dev; do .venv/bin/uv pip compile -q --python-version 3.11 --extra $$extra pyproject.toml \
	  --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links -o requirements/$$extra.txt; done
	for own in peers-flower peers-flare slither; do .venv/bin/uv pip compile -q --python-version 3.11 requirements/$$own.in \
	  --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	  -o requirements/$$own.txt; done

.PHONY: lint
lint: chain-tools ## ruff, mypy, import-linter, forge fmt, slither, generated files
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy $(foreach root,$(ROOTS),$(wildcard $(root)/covey_*))
	.venv/bin/lint-imports
	cd contracts && "$(FOUNDRY)/bin/forge" fmt --check && "$(FOUNDRY)/bin/forge" build && "$(FOUNDRY)/bin/forge" lint
	$(DEV) slither
	$(PY) -m covey_chain.abi --check
	$(PY) -m covey_api.crd --check
	$(PY) -m covey_api.reference --check
	$(PY) charts/generate_dashboards.py --check

.PHONY: format
format: venv ## Format everything
	.venv/bin/ruff format . && .venv/bin/ruff check --fix .
	cd contracts && "$(FOUNDRY)/bin/forge" fmt

.PHONY: test
test: tools ## Lint, and all tests; the last ones on real clusters (root)
	$(MAKE) --no-print-directory --jobs=2 test-parts test-servers  # side by side: the one computes, the other waits
	$(MAKE) --no-print-directory e2e  # by itself: the API server and operator of the tests before are gone then

.PHONY: test-parts
test-parts: tools lint ## Lint, tests of the contracts in Solidity, unit tests, a short fuzz, and whole validators
	cd contracts && "$(FOUNDRY)/bin/forge" test
	eval "$$($(DEV) tools --print-env)" && $(PY) -m pytest $(PARTS) | $(call whole-lines,parts)

.PHONY: test-servers
test-servers: tools ## Tests against real nodes of the chain, a real API server, and local clusters (root)
	eval "$$($(DEV) tools --print-env)" && $(PY) -m pytest tests/contract tests/integration $(PARTS:%=--ignore=%) | $(call whole-lines,servers)

.PHONY: fuzz
fuzz: venv ## Fuzz the decoders for FUZZ_SECONDS (an hour); what it learns stays in build/fuzz
	$(PY) tests/fuzz/fuzz_decoder.py --seeds build/fuzz/corpus
	$(PY) tests/fuzz/fuzz_decoder.py -max_total_time=$(FUZZ_SECONDS) -timeout=5 -rss_limit_mb=2048 \
	  -artifact_prefix=build/fuzz/ build/fuzz/corpus

.PHONY: bench
bench: bench-codec bench-accuracy bench-ring bench-peers bench-scale bench-gas bench-incentives bench-operator ## All benchmarks that need no GPU; each writes bench/out/NAME.json

.PHONY: bench-codec
bench-codec: venv ## Bytes, time and memory of the codecs; BENCH=--billion: also 1,074 M parameters
	PYTHONPATH=bench $(PY) -m covey_bench.codec $(BENCH)

.PHONY: bench-accuracy
bench-accuracy: venv ## What compression costs in accuracy, three tasks, paired seeds (SEEDS=n, BENCH="--task NAME --codec NAME --rounds N"); some hours
	PYTHONPATH=bench $(PY) -m covey_bench.accuracy $(if $(filter command line environment,$(origin SEEDS)),--seeds $(SEEDS)) $(BENCH)

.PHONY: bench-ring
bench-ring: venv ## The ring against plain mutual TLS between network namespaces (root)
	PYTHONPATH=bench $(PY) -m covey_bench.ring

.PHONY: bench-peers
bench-peers: chain-tools ## A round of a 97 MB model in Covey, Flower, FLARE and plain TCP (root; half an hour)
	PYTHONPATH=bench:dev $(PY) -m covey_bench.peers $(BENCH)

.PHONY: bench-gpu
bench-gpu: venv ## Error feedback and selection on a CUDA GPU, against its memory's bandwidth
	PYTHONPATH=bench $(PY) -m covey_bench.gpu

.PHONY: bench-incentives
bench-incentives: venv ## Honest members and attackers under the incentive rule, in real training (SEEDS=20)
	PYTHONPATH=bench $(PY) -m covey_bench.incentives --seeds $(if $(filter command line environment,$(origin SEEDS)),$(SEEDS),20)

.PHONY: bench-gas
bench-gas: chain-tools ## What a settled round costs on chain
	PYTHONPATH=bench:dev $(PY) -m covey_bench.gas

.PHONY: bench-operator
bench-operator: tools ## One operator with 1,000 tasks and 10,000 pods on a real API server and chain (a quarter of an hour)
	eval "$$($(DEV) tools --print-env)" && PYTHONPATH=bench:dev $(PY) -m covey_bench.operator $(BENCH)

.PHONY: bench-scale
bench-scale: venv ## A round of 3 to 1,024 members in virtual time; SCALE=--all: also the slow cases (some 10 minutes)
	PYTHONPATH=bench $(PY) -m covey_bench.scale $(SCALE)

.PHONY: soak
soak: venv ## Fresh schedules for the agreement on all cores (SECONDS=3600, or SEEDS=n schedules)
	PYTHONPATH=dev $(PY) -m covey_schedules soak $(if $(filter command line environment,$(origin SEEDS)),--seeds $(SEEDS),--seconds $(or $(SECONDS),3600))

.PHONY: manifests
manifests: venv ## The chart as one file for kubectl (VALUES=values.yaml, with your images): build/covey.yaml
	$(DEV) manifests --values $(VALUES) --out build/covey.yaml

.PHONY: release
release: venv ## Chart, manifests, bills of materials, checksums, signature (KEY=minisign's secret key, VALUES): build/release
	$(DEV) release --values $(VALUES) --key "$(or $(KEY),$(error make release needs KEY=FILE, the secret key of minisign))" --out build/release

.PHONY: demo
demo: tools ## Three institutions, three clusters (CLUSTER=kind: by kind), one model; ends with a table
	PYTHONPATH=dev $(PY) -m covey_demo up

.PHONY: e2e
e2e: tools ## The story, a killed head and bad input on three real clusters
	eval "$$($(DEV) tools --print-env)" && $(PY) -m pytest tests/e2e

.PHONY: down
down: venv ## End the demo's clusters, and what nobody else uses; leave nothing behind
	PYTHONPATH=dev $(PY) -m covey_demo down

.PHONY: clean
clean: ## Remove what was built in the clone
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis contracts/out contracts/cache contracts/lib
