#!/usr/bin/env bash
# Times a step of paper-v2 on a GPU beside the paper's public code: gpu.sh CHECKOUT
# CHECKOUT is one of github.com/tkz05/2D-VoCo-CT-Classifier; its code imports monai: pip install '.[volume]'.
set -euo pipefail
checkout=$1
cd "$(dirname "$0")/../.."
for batch in 4 1; do
  "${PYTHON:-.venv/bin/python}" -m voco2d bench pretrain --device cuda --reference "$checkout" --batch-size "$batch" \
    --steps 20 --warm-up 10 --rounds 3 --json "benchmarks/pretrain_step/results/gpu-batch-$batch.json"
done
