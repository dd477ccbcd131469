#!/usr/bin/env bash
# Trains a small classifier on phantoms and measures whether explanations find the injured slices: run.sh FOLDER
# 240 patients to train on, 80 others to explain. About ten minutes of one CPU core.
set -euo pipefail
work=$1
here=$(cd "$(dirname "$0")" && pwd)
shape=(--seed 6 --enriched size=112 mean_slices=36 two_series_share=0 incomplete_share=0 sign_scale=2)

voco2d phantom "$work/cohort" --patients 320 "${shape[@]}" masks=false
voco2d phantom "$work/unseen" --patients 80 "${shape[@]}" first_patient=240
{
  echo patient_id,split
  tail -n +2 "$work/cohort/train.csv" | cut -d, -f1 | awk '{print $1 "," (NR <= 240 ? "train" : "test")}'
} > "$work/splits.csv"
voco2d prepare "$work/cohort" --out "$work/store" 'preprocess.size=[24,80,80]'
voco2d finetune "$work/store" --labels "$work/cohort/train.csv" --init random --out "$work/classifier" --splits "$work/splits.csv" \
  backbone=test_efficientnet hidden=64 epochs=16 batch_size=8 readout.slices=24 readout.crop=72 optim.lr=3e-3 seed=0 device=cpu
python "$here/run.py" "$work"
