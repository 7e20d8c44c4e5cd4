# Everything made here lies under .venv*, .models and var, which git ignores.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What is imported first is compiled for all who import it later: packages are installed without that.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
VLLM_VENV ?= .venv-vllm
TOOLS_VENV ?= .venv-tools
CLIENTS_VENV := .venv-clients
VAR ?= var
CONFIG ?=
PYTEST ?=
# For CI: a target that is run beside the tests, and a file into which each part writes how long it took.
WITH ?=
TIMES ?=

PY := $(VENV)/bin/python
SERVICES := gateway embedder retriever llm
CODE := services deploy tests
RUN_LOCKS := $(addprefix requirements/,gateway.txt embedder.txt retriever.txt local.txt)
TEST_LOCKS := requirements/test.txt
VLLM_LOCKS := requirements/vllm.txt
TOOLS_LOCKS := requirements/tools.txt
CLIENTS_LOCKS := requirements/clients.txt
CLIENTS2_LOCKS := requirements/clients-openai2.txt
CLIENTS_NPM := tests/clients/javascript

# An environment is made again when the content of its locks changes, and only then: a stamp carries their digest.
digest = $(shell cat $(1) requirements/install.sh 2>/dev/null | sha256sum | cut -c1-16)
RUN_STAMP := $(VENV)/.run-$(call digest,$(RUN_LOCKS))
TEST_STAMP := $(VENV)/.test-$(call digest,$(RUN_LOCKS) $(TEST_LOCKS))
VLLM_STAMP := $(VLLM_VENV)/.run-$(call digest,$(VLLM_LOCKS))
TOOLS_STAMP := $(TOOLS_VENV)/.run-$(call digest,$(TOOLS_LOCKS))
CLIENTS_STAMP := $(CLIENTS_VENV)/.run-$(call digest,$(CLIENTS_LOCKS))
CLIENTS2_STAMP := $(CLIENTS_VENV)-openai2/.run-$(call digest,$(CLIENTS2_LOCKS))
CLIENTS_NPM_STAMP := $(CLIENTS_VENV)-javascript/.run-$(call digest,$(wildcard $(CLIENTS_NPM)/package*.json))
CLIENTS := $(CLIENTS_STAMP) $(CLIENTS2_STAMP) $(CLIENTS_NPM_STAMP)
INSTALL := requirements/install.sh
KEEP_GOING := $(if $(findstring k,$(firstword -$(MAKEFLAGS))),--keep-going)

.NOTPARALLEL:
.PHONY: help system system-test environments unpacked install run test check peers lint format docs types imports unit integration contract service chart e2e clients ocr lock clean clean-data

help: ## Show this
	@echo "Cloister: a private chatbot stack. The targets:"
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'

install: system environments ## Make the environments from the locks and unpack the models
	@$(PY) -m deploy.local --only-models

run: system environments ## Start everything on this machine (VAR=DIR, CONFIG=FILE); Ctrl-C stops it
	@exec $(PY) -m deploy.local --end-with-parent --var "$(VAR)" $(if $(CONFIG),--config "$(CONFIG)")

# While vLLM's environment is made, the models can be unpacked already.
environments: ; @requirements/beside.sh $(if $(wildcard $(VLLM_STAMP)),$(RUN_STAMP),unpacked) $(VLLM_STAMP)

unpacked: $(RUN_STAMP) ; @$(PY) -m deploy.local --only-models --var "$(VAR)" $(if $(CONFIG),--config "$(CONFIG)")

system: ; @requirements/system.sh

system-test: ; @requirements/system.sh --test

test: peers ## Run every check and every test (make -k goes on after a failure)
	@exec $(PY) -m tests.support.suite test $(KEEP_GOING) $(if $(WITH),--with "$(WITH)") $(if $(TIMES),--times "$(TIMES)")

check: $(TEST_STAMP) ## Run what takes three minutes: lint, types, imports, unit
	@exec $(PY) -m tests.support.suite check $(KEEP_GOING)

peers: system-test ## Say which real parts the tests will use
	@requirements/beside.sh $(TEST_STAMP) $(VLLM_STAMP) $(TOOLS_STAMP) $(CLIENTS)
	@$(PY) -m tests.support.peers --llm-python $(VLLM_VENV)/bin/python

lint: $(TEST_STAMP) ## Check style and formatting
	@$(VENV)/bin/ruff check $(CODE)
	@$(VENV)/bin/ruff format --check $(CODE)

format: $(TEST_STAMP) ## Mend what lint can mend by itself
	@$(VENV)/bin/ruff check --fix $(CODE)
	@$(VENV)/bin/ruff format $(CODE)

docs: $(TEST_STAMP) ## Write the tables of settings, values and parameters, and the schemas of the chart's config, anew
	@$(PY) -m deploy.docs

types: $(TEST_STAMP) ## Check types
	@$(VENV)/bin/mypy $(addprefix services/,$(addsuffix /,common $(SERVICES))) deploy tests

imports: $(TEST_STAMP) ## Check who may import whom
	@$(VENV)/bin/lint-imports --cache-dir $(VENV)/.import-linter

unit: $(TEST_STAMP) ## Tests in memory
	@$(PY) -m pytest tests/unit $(PYTEST)

integration: $(TEST_STAMP) $(VLLM_STAMP) ## Tests of one service with its real dependency
	@$(PY) -m pytest tests/integration $(PYTEST)

contract: $(TEST_STAMP) $(VLLM_STAMP) ## Tests of both sides of each client
	@$(PY) -m pytest tests/contract $(PYTEST)

service: $(TEST_STAMP) $(VLLM_STAMP) ## Integration and contract tests of one service (OF=gateway)
	$(if $(OF),,$(error OF names no service: make service OF=gateway))
	@$(PY) -m pytest $(wildcard tests/integration/$(OF) tests/contract/$(OF)) $(PYTEST)

chart: $(TEST_STAMP) $(if $(wildcard tests/chart),$(TOOLS_STAMP)) ## Tests of the Helm chart
	$(if $(wildcard tests/chart),@$(PY) -m pytest tests/chart $(PYTEST),@echo "cloister: there is no chart yet")

e2e: $(TEST_STAMP) $(VLLM_STAMP) ## Tests of the whole stack, with vLLM
	@$(PY) -m pytest tests/e2e $(PYTEST)

clients: $(TEST_STAMP) $(VLLM_STAMP) $(CLIENTS) ## Flows of the libraries that people build with, at the whole stack
	@$(PY) -m pytest tests/clients $(PYTEST)

ocr: $(RUN_STAMP) ## Add what reads text in scans and pictures to the environment (410 MB)
	@$(INSTALL) $(VENV) requirements/ocr.txt

lock: ## Resolve requirements/*.in again (LOCK=--upgrade takes new versions); needs uv
	@PATH="$$PATH:$(abspath $(VENV))/bin" requirements/lock.sh $(LOCK)

clean: ## Remove the environments and the unpacked models, not the data
	rm -rf .venv .venv-* .models

clean-data: ## Remove var: all conversations, files, keys and secrets
	rm -rf var

include $(wildcard deploy/make/*.mk)

$(RUN_STAMP): ; @$(INSTALL) $(VENV) --torch --services "common $(SERVICES)" $(RUN_LOCKS) && rm -f $(VENV)/.run-* $(VENV)/.test-* && touch $@
$(TEST_STAMP): $(RUN_STAMP) ; @$(INSTALL) $(VENV) $(RUN_LOCKS) $(TEST_LOCKS) && rm -f $(VENV)/.test-* && touch $@
$(VLLM_STAMP): ; @$(INSTALL) $(VLLM_VENV) --torch --services "common llm" $(VLLM_LOCKS) && rm -f $(VLLM_VENV)/.run-* && touch $@
$(TOOLS_STAMP): ; @$(INSTALL) $(TOOLS_VENV) $(TOOLS_LOCKS) && rm -f $(TOOLS_VENV)/.run-* && touch $@
$(CLIENTS_STAMP): ; @$(INSTALL) $(@D) $(CLIENTS_LOCKS) && rm -f $(@D)/.run-* && touch $@
$(CLIENTS2_STAMP): ; @$(INSTALL) $(@D) $(CLIENTS2_LOCKS) && rm -f $(@D)/.run-* && touch $@
$(CLIENTS_NPM_STAMP): ; @requirements/npm.sh $(@D) $(CLIENTS_NPM) && rm -f $(@D)/.run-* && touch $@
