"""`voco2d listen`: a DICOM node that grades the studies it receives and sends reports back."""

import argparse
import logging
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

from voco2d.commands.service_options import grading_options
from voco2d.errors import UsageError
from voco2d.inference.explain.explainer import Explainer
from voco2d.inference.explain.explanation import NO_MAPS
from voco2d.inference.predictor import Predictor
from voco2d.inference.results import NOTICE
from voco2d.logs import quiet_libraries
from voco2d.service.answer import answer
from voco2d.service.audit import Audit
from voco2d.service.dicom_node import DicomNode
from voco2d.service.dicomweb import fetch_studies
from voco2d.service.grader import Answer, Grader
from voco2d.service.node_args import NodeArgs, parse_target
from voco2d.service.spool import Spool
from voco2d.service.worker import Worker

_log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Listen, or fetch from a DICOMweb server, and answer until SIGTERM or SIGINT.

    Raises:
        UsageError: The spool is in use, the address can't be listened on, or an option is wrong.
    """
    args = NodeArgs(
        title=options.ae_title,
        host=options.host,
        port=options.port,
        callers=tuple(options.allow),
        targets=tuple(parse_target(text) for text in options.send_to),
        quiet_s=options.quiet_seconds,
        keep_h=options.keep_hours,
        keep_results_h=options.keep_results_hours,
        most_associations=options.most_associations,
        most_gb=options.most_gb,
        most_image_bytes=options.most_image_mb << 20,
        certificate=options.tls_certificate,
        key=options.tls_key,
        authorities=options.tls_authorities,
        pdf=options.pdf,
        longest_study_s=options.study_minutes * 60,
    )
    quiet_libraries()
    filters = dict(_filter(text) for text in options.query)
    if options.fetch_from is not None and not filters:  # the whole archive is seldom meant
        raise UsageError("--fetch-from: say which studies with --query KEYWORD=VALUE, for example StudyDate=20260101-")
    spool = Spool(options.spool, int(args.most_gb * 1e9))
    begin = partial(load, options.model, grading_options(options), options.explain, args.pdf)
    try:
        with Grader(begin, args.longest_study_s) as grader:
            return _serve(args, spool, grader, options, filters)
    finally:
        spool.close()


def load(models: Sequence[Path], grading: dict[str, Any], explain: bool | None, pdf: bool) -> Answer:
    """Load the networks; runs in the process that grades.

    Args:
        models: As `Predictor.load` takes them.
        grading: Its other keywords.
        explain: See `choose_explainer`.
        pdf: Whether a page goes with each report.
    """
    quiet_libraries()
    predictor = Predictor.load(models, **grading)
    return partial(answer, predictor, pdf=pdf, explainer=choose_explainer(explain, predictor))


def _serve(
    args: NodeArgs,
    spool: Spool,
    grade: Answer,
    options: argparse.Namespace,
    filters: dict[str, str],
) -> int:
    audit = Audit(spool.folder / "audit.jsonl")
    worker = Worker(args, spool, audit, lambda digest, version: _grade(grade, spool, digest, version))
    left = spool.ledger.recover()
    if left:
        print(f"{left} studies were being graded when the node last ended; they are begun again", flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: worker.stop())
    node = None
    if options.fetch_from is None:
        node = DicomNode(args, spool, audit)
        print(f"{args.title} listens on {args.host}:{node.port}; spool: {spool.folder}. {NOTICE}", flush=True)
    else:
        fetched = fetch_studies(options.fetch_from, filters, spool, audit, args)
        broken = f" ({fetched.broken} not to the end)" if fetched.broken else ""
        studies = "1 study" if fetched.studies == 1 else f"{fetched.studies} studies"
        print(f"{studies} fetched, {fetched.images} images{broken}. {NOTICE}", flush=True)
    try:
        worker.run(once=options.once or node is None)
    finally:
        if node is not None:
            node.close()
    counts = spool.ledger.counts()
    told = ", ".join(
        f"{counts.get(state, 0)} {state}" for state in ("graded", "failed", "receiving", "sent", "waiting")
    )
    if counts.get("given_up"):
        told += f", {counts['given_up']} given up"
    print(f"studies and results: {told}")
    for reason, count in spool.ledger.refusals().items():
        print(f"refused ({count}): {reason}")
    return 0


def _grade(grade: Answer, spool: Spool, digest: str, version: int) -> dict[str, bytes]:
    return grade(spool.images(digest), version, spool.ledger.is_forgotten(digest))


def choose_explainer(wanted: bool | None, predictor: Predictor) -> Explainer | None:
    """Prepare to explain: where that is asked for; and by default (None) where Captum is there and gives maps.

    Raises:
        UsageError: It is asked for, the engine is torch, and Captum is not installed.
    """
    if wanted is False:
        return None
    try:
        explainer = Explainer(predictor)
    except UsageError as error:
        if wanted:
            raise
        print(f"reports will name no key slices: {error}", flush=True)
        return None
    if not explainer.gives_maps:
        print(f"{'key slices without colours' if wanted else 'no key slices unless --explain'}: {NO_MAPS}", flush=True)
        return explainer if wanted else None
    return explainer


def _filter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise UsageError(f"--query {text}: give KEYWORD=VALUE, for example StudyDate=20260101-")
    if tag_for_keyword(name) is None:  # a server would pass it over, and answer with the whole archive
        raise UsageError(f"--query {text}: {name} is no DICOM keyword; StudyDate, PatientID or AccessionNumber are")
    return name, value
