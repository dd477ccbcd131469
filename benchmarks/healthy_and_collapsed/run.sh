#!/usr/bin/env bash
# Pretrains a small backbone on 24 phantoms twice, once so that it collapses, and draws both: run.sh FOLDER
# What differs is the weight decay: times the learning rate it is 1, so that each step takes all the weights away.
set -euo pipefail
work=$1
here=$(cd "$(dirname "$0")" && pwd)
settings=(backbone=test_efficientnet steps=400 checkpoint_every=400 log_every=10 seed=0 device=cpu optim.warmup_steps=20
  method.crop=32 method.slices=4 method.hidden=256 method.projector_end=linear)

voco2d phantom "$work/phantoms" --patients 24 --seed 1 size=160 mean_slices=40 masks=false incomplete_share=0
voco2d prepare "$work/phantoms" --out "$work/store" 'preprocess.size=[32,96,96]'
voco2d pretrain "$work/store" --out "$work/healthy" "${settings[@]}" optim.lr=3e-3
voco2d pretrain "$work/store" --out "$work/collapsed" "${settings[@]}" optim.lr=1e-2 optim.weight_decay=100

for run in healthy collapsed; do cp "$work/$run/metrics.jsonl" "$here/$run.jsonl"; done
python "$here/plot.py" "$here/healthy.jsonl" "$here/collapsed.jsonl" "$here/../../docs/images/watching.png"
