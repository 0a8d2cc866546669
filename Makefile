# One line per verb, no logic: everything is done by ci/setup and the xwiki-stack command.
.DEFAULT_GOAL := help
.PHONY: help setup up down delete demo test check generate bench bench-backups faults packets

CLI := .venv/bin/xwiki-stack

# Only YES=1 is a yes, for ci/setup as for the command: both read the variable themselves.
export YES

# A variable counts where it was given to make itself: one of that name in a shell's environment may
# mean anything. $(call option,PORT,port) -> --port '8081'
given = $(if $(filter command,$(origin $(1))),$($(1)))
option = $(if $(call given,$(1)),--$(2) '$(call given,$(1))')

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22
	@echo "  make up takes ENV=... (environment) and PORT=..., make test TESTS='...' (for pytest),"
	@echo "  make bench-backups SIZE=small (a trial) and PARTS='dump verify'"
	@echo "  YES=1 answers every question with yes; XWIKI_STACK_CLUSTER=... names another local"
	@echo "  cluster than xwiki-stack; XWIKI_STACK_CACHE moves ~/.cache/xwiki-stack"

setup:
	@ci/setup

up: setup ## a wiki on a local kind cluster, from nothing or from what is there
	@$(CLI) up $(call option,ENV,env) $(call option,PORT,port)

down: setup ## stop the local cluster; its pages stay for the next `make up`
	@$(CLI) down

delete: setup ## delete the local cluster and every page in it (asks)
	@$(CLI) delete

demo: setup ## write a page, back it up, destroy it all, bring it back: beside your wiki, on the local cluster
	@$(CLI) demo $(call option,PORT,port)

test: setup ## every test, the end-to-end ones on a kind cluster of their own
	@$(CLI) test -- $(call given,TESTS)

check: setup ## everything that needs no cluster: types, style, unit, render, policy
	@$(CLI) check

generate: setup ## values/generated from the intent in values/
	@$(CLI) generate

bench: setup ## figures for docs/benchmarks.md, never part of a test
	@$(CLI) bench

bench-backups: setup ## backups against their peers, for docs/benchmarks-backups.md
	@$(CLI) bench-backups $(call option,SIZE,size) $(call given,PARTS)

faults: setup ## prove the 28 faults of backups, with every cut and flip, for docs/reference/faults.md
	@$(CLI) faults

packets: setup ## change every network policy in turn and see packets notice, for docs/reference/network.md
	@$(CLI) flows --packets
