"""Runs the command line; in the second of several processes no volume can be read from the second batch on."""

import os
import sys
from typing import Any

from voco2d.cli import main
from voco2d.data.pretrain_dataset import PretrainDataset
from voco2d.errors import StoreError

if os.environ.get("LOCAL_RANK") == "1":
    read = PretrainDataset._read
    reads: list[int] = []

    def unreadable(self: PretrainDataset[Any, Any], *words: Any) -> Any:
        reads.append(1)
        if len(reads) > 1:
            raise StoreError("store/volumes/3.npy: damaged; delete it and run `voco2d prepare` again")
        return read(self, *words)

    PretrainDataset._read = unreadable  # type: ignore[method-assign]

sys.exit(main())
