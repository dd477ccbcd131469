#!/usr/bin/env bash
# Times a step of paper-v2 on the CPU beside the paper's public code: run.sh CHECKOUT
# CHECKOUT is one of github.com/tkz05/2D-VoCo-CT-Classifier; its code imports monai: pip install '.[volume]'.
# At batch 4 its side takes 22.4 GB of memory. Takes about ten minutes on two cores.
set -euo pipefail
checkout=$1
cd "$(dirname "$0")/../.."
bench() { "${PYTHON:-.venv/bin/python}" -m voco2d bench pretrain "${@:2}" --json "benchmarks/pretrain_step/results/$1.json"; }

bench batch-4 --reference "$checkout" --batch-size 4 --steps 2 --warm-up 2
bench batch-1 --reference "$checkout" --batch-size 1 --steps 3 --warm-up 2 --rounds 2
for chunk in 22 11; do bench "batch-4-chunk-$chunk" --batch-size 4 --steps 2 --warm-up 2 --chunk "$chunk"; done
bench batch-4-alone --batch-size 4 --steps 2 --warm-up 2
bench batch-4-plain --batch-size 4 --steps 2 --warm-up 1 --plain
