# One line per verb, no logic: everything is done by ci/setup and the xwiki-stack command.
.DEFAULT_GOAL := help
.PHONY: help setup up down delete test check generate bench

CLI := .venv/bin/xwiki-stack
ENV ?= local

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo "  YES=1 answers every question with yes; XWIKI_STACK_CACHE moves ~/.cache/xwiki-stack"

setup:
	@ci/setup

up: setup ## a wiki on a local kind cluster, from nothing or from what is there
	@$(CLI) up $(if $(PORT),--port $(PORT)) $(if $(YES),--yes)

down: setup ## stop the local cluster; its pages stay for the next `make up`
	@$(CLI) down

delete: setup ## delete the local cluster and every page in it (asks)
	@$(CLI) delete $(if $(YES),--yes)

test: setup ## every test, the end-to-end ones on a kind cluster of their own
	@$(CLI) test $(if $(YES),--yes) -- $(TESTS)

check: setup ## everything that needs no cluster: types, style, unit, render, policy
	@$(CLI) check

generate: setup ## values/generated from the intent in values/
	@$(CLI) generate

bench: setup ## figures for docs/benchmarks.md, never part of a test
	@$(CLI) bench
