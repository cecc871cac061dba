# What a newcomer needs; everyday work is `snakemake …`, see README.md.
.PHONY: report test lint

# uv does not read pip's settings: hand over a folder of local wheels where there is one.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

report: .venv/installed
	snakemake report.md

test: .venv/dev
	pytest -n 2

lint: .venv/dev
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	lint-imports
	snakemake --lint

# What a user needs, and what a developer needs beside it.
USES = workflow,wandb,chat
.venv/installed: EXTRAS = $(USES)
.venv/dev: EXTRAS = $(USES),dev

.venv/installed .venv/dev: pyproject.toml envs/constraints.txt
	@if command -v uv >/dev/null; then \
	  uv venv --allow-existing .venv && VIRTUAL_ENV=.venv uv pip install -c envs/constraints.txt -e '.[$(EXTRAS)]'; \
	else \
	  python3 -m venv .venv && .venv/bin/pip install -c envs/constraints.txt -e '.[$(EXTRAS)]'; \
	fi
	@touch $@
