# The README's two commands. Each makes .venv first, where it is missing or no longer what environment/ says.
#
#   make demo DATAROOT=folder VERSION=v1.0-mini     the demo on a nuScenes folder of your own
#   make demo RATE=0.1                              a slower replay, for a slow machine

.DEFAULT_GOAL := help
.PHONY: help setup demo test docs
PYTHON := .venv/bin/python

help:
	@echo 'make demo    a trained student on synthetic scenes, over ROS 2; results in out/demo'
	@echo '             DATAROOT=folder VERSION=v1.0-mini: on a nuScenes folder of yours; RATE=0.1: a slower replay'
	@echo 'make test    the linter, the type checker and all tests'
	@echo 'make docs    docs/ and the API as a site, out/docs/index.html; warnings are errors'
	@echo 'make setup   only .venv, which demo and test make by themselves'

setup:
	@environment/setup.sh

DEMO_OPTIONS = $(if $(DATAROOT),--dataroot '$(DATAROOT)' $(if $(VERSION),--version '$(VERSION)')) \
               $(if $(RATE),--rate '$(RATE)')

demo: setup
	$(PYTHON) -m vexkd_ros.demo $(DEMO_OPTIONS)

# Only the plugins that are pinned here: a ROS installation brings its own, made for an older pytest.
# One thread each: two workers with two threads wait for one another on two cores (667 s; so 576 s).
test: setup
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m basedpyright
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --disable-plugin-autoload -p xdist -p timeout -p hypothesispytest \
	  -n 2 --dist loadfile --no-loadscope-reorder --timeout 300

# The API is read from the sources, so that the site needs none of what the project imports.
docs: .venv-docs/installed
	.venv-docs/bin/mkdocs build --quiet
	@echo 'docs: open out/docs/index.html'

.venv-docs/installed: environment/requirements-docs.txt
	python3 -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check -r environment/requirements-docs.txt
	touch $@
