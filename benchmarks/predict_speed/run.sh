#!/usr/bin/env bash
# Measures what `voco2d predict` takes beside decoding and beside the bare network: run.sh [--rounds N]. About ten minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-$here/../../.venv/bin/python}" "$here/measure.py" --json "$here/results.json" "$@"
