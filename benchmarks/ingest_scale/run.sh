#!/bin/sh
# One phantom RSNA cohort prepared three ways: in one go, killed three times, and by two dask workers.
# All stores must hold the same bytes. Usage: run.sh WORK_FOLDER [PATIENTS] [SIZE] [SLICES] [PREPARED_SIZE]
set -eu
here=$(dirname "$0")
work=${1:?folder for the cohort and the stores}
exec "${PYTHON:-python3}" "$here/acceptance.py" "$work" --patients "${2:-200}" --size "${3:-256}" --slices "${4:-80}" \
    --prepared "${5:-[32,128,128]}" --result "$here/result.json"
