#!/usr/bin/env bash
# Trains a classifier on 500 enriched phantom patients and scores it on 200 others: run.sh FOLDER
# The epoch is chosen on 100 further patients; the 200 test patients are seen once, at the end.
set -euo pipefail
work=$1
here=$(cd "$(dirname "$0")" && pwd)
cohort=(--enriched size=192 mean_slices=48 masks=false incomplete_share=0)

voco2d phantom "$work/train" --patients 600 --seed 1 "${cohort[@]}"
voco2d phantom "$work/test" --patients 200 --seed 2 "${cohort[@]}"
voco2d prepare "$work/train" --out "$work/store" 'preprocess.size=[32,96,96]'
voco2d finetune "$work/store" --labels "$work/train/train.csv" --init random --out "$work/classifier" \
  backbone=test_resnet folds=6 run_folds=1 epochs=22 batch_size=8 readout.slices=32 readout.crop=96 optim.lr=3e-3 seed=0
voco2d predict "$work/test/train_images" --model "$work/classifier" --out "$work/predictions.csv"

cp "$work/predictions.csv" "$work/classifier/metrics.jsonl" "$work/classifier/config.yaml" "$here/"
cut -d, -f1-14 "$work/test/train.csv" > "$here/labels.csv"
"$here/score.sh"
