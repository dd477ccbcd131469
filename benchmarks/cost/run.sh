#!/usr/bin/env bash
# Measures a step of 2D-VoCo with three backbones and one of 3D VoCo on the same volume: run.sh
# Needs monai (pip install '.[volume]') and 13 GB of memory. Takes seven minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
"${PYTHON:-.venv/bin/python}" -m voco2d bench cost --json benchmarks/cost/cost.json --figure docs/images/cost.png
