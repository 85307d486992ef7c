# The commands of this project, each in one word. CONTRIBUTING.md says when to use which.
.PHONY: test fast long lint docs local flink pins
SHELL := bash
in_venv = set -eu; . ./.setup_venv.sh test;

test: ; @./run_tests.sh                  # all that CI runs
fast: ; @$(in_venv) pytest -m fast       # the pure cores alone: no Beam, no servers, under 20 s
long: ; @$(in_venv) pytest -m long       # what run_tests.sh leaves out: every benchmark once, real data to a real LRS
lint: ; @./run_tests.sh --lint           # formatting, linting, import contracts, types
docs: ; @$(in_venv) python docs/pictures/draw.py; pytest tests/docs      # draws the pictures, tries what the pages say
local: ; @./run_local.sh                 # the whole job on this machine
flink: ; @./run_flink.sh                 # the same on a local Flink cluster
pins: ; @python3 requirements/pin.py     # the pinned set anew, after a change of setup.py; needs uv
