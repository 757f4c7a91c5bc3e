.PHONY: demo test check bench clean

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

bench: ## ratios against peers, in one run
	scripts/setup test
	.venv/bin/python tests/bench/run.py

clean:
	rm -rf .demo .venv build dist *.egg-info
