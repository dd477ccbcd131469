#!/usr/bin/env bash
# Reads damaged inputs by the thousand: benchmarks/mutations/run.sh [COUNT] [SEED]; the result goes to results/.
set -euo pipefail
cd "$(dirname "$0")/../.."
count=${1:-10000} seed=${2:-2}
mkdir -p benchmarks/mutations/results
OMP_NUM_THREADS=1 "${PYTHON:-.venv/bin/python}" tests/mutations/run.py --count "$count" --seed "$seed" \
    --json "benchmarks/mutations/results/count-$count-seed-$seed.json" 2>"${TMPDIR:-/tmp}/mutations.log" || {
    echo "complaints; the last inputs are in ${TMPDIR:-/tmp}/mutations.log" >&2
    exit 1
}
