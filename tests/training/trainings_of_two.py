"""One of two processes, started by torchrun, that train together: a command line, then trainings, then a wrong one.

Called with a folder that holds `cases.json`; writes the exit codes of the command lines to `codes_<rank>.json` there.
"""

import json
import os
import sys
from pathlib import Path

from voco2d.cli import main
from voco2d.config import resolve
from voco2d.training.pretrain import PretrainArgs, pretrain

folder = Path(sys.argv[1])
cases = json.loads((folder / "cases.json").read_text())
codes = [main(cases["command"])]
for store, out, config in cases["trainings"]:
    pretrain(store, Path(out), resolve(PretrainArgs, Path(config)))
codes.append(main(cases["wrong"]))
(folder / f"codes_{os.environ['RANK']}.json").write_text(json.dumps(codes))
