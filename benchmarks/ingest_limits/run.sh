#!/bin/sh
# Peak memory of preparing a large .nii.gz, and files a second of discovery. Usage: run.sh WORK_FOLDER [--slices N] [--files N]
set -eu
here=$(dirname "$0")
exec "${PYTHON:-python3}" "$here/measure.py" "$@" --json "$here/result.json"
