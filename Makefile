.PHONY: demo test test-matrix check campaign bench clean

demo: ## the main job: realize docs/examples/digits
	scripts/demo

test: ## everything that CI runs; installs what it needs
	scripts/setup test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/pytest -n 2 --dist worksteal

check: ## the fast part: lint, types, tests without Nix
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/pytest -n 2 --dist worksteal -m "not nix and not slow"

MATRIX ?= $(HOME)/.cache/nixbridge/matrix
test-matrix: ## the tests that need Nix, against 2.26 and 2.34 too (Debian, root; makes their folders once)
	scripts/setup test
	command -v debootstrap >/dev/null || apt-get install -y -qq debootstrap
	scripts/nix-matrix $(MATRIX) trixie sid
	for suite in trixie sid; do \
		PATH="$(MATRIX)/bin-$$suite:$$PATH" nix --version && \
		PATH="$(MATRIX)/bin-$$suite:$$PATH" .venv/bin/pytest -n 2 --dist worksteal -m nix || exit 1; \
	done

campaign: ## everything that may go wrong, in bulk: kill -9 and full disks at each call, crowds (half an hour)
	scripts/setup test
	NIXBRIDGE_CAMPAIGN=1 .venv/bin/pytest tests/campaign

bench: ## ratios against peers, in one run
	scripts/setup test
	.venv/bin/python tests/bench/run.py

clean:
	rm -rf .demo .venv build dist *.egg-info
