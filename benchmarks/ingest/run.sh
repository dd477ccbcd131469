#!/usr/bin/env bash
# Compares preparing a 512 x 512 x 300 RLE series with the two-stage way, on one core: run.sh [--rounds N] [--no-large]
# Needs about 2 GB in TMPDIR for the 1,700-slice series. Takes two to three minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-$here/../../.venv/bin/python}" "$here/measure.py" --json "$here/results/ingest.json" "$@"
