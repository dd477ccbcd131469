"""`voco2d report`: the HTML page of a run."""

import argparse

from voco2d.inference.report import report_run


def run(options: argparse.Namespace) -> int:
    """Write the page."""
    print(f"report: {report_run(options.run, options.out)}")
    return 0
