"""Fetches studies from a DICOMweb server: QIDO-RS and WADO-RS (DICOM PS3.18, 10.6 and 10.4)."""

import io
import logging
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from voco2d.errors import UsageError
from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.logs import wordless
from voco2d.service.audit import Audit
from voco2d.service.listener import CT_CLASSES
from voco2d.service.node_args import NodeArgs, check_address
from voco2d.service.spool import Spool, SpoolFullError
from voco2d.service.web_client import web_client

_MOST_STUDIES = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """What a query came to.

    Args:
        studies: That have CT images.
        images: Of these.
        broken: Studies that could not be fetched to their end; what came of them is graded all the same.
    """

    studies: int
    images: int
    broken: int


def fetch_studies(url: str, filters: dict[str, str], spool: Spool, audit: Audit, args: NodeArgs) -> Fetched:
    """Fetch the CT images of every study that a query finds into the spool, where they wait to be graded.

    Args:
        url: Root of the service.
        filters: Attribute → value of the query, for example `StudyDate`.
        spool: Where images go.
        audit: Told what was fetched.
        args: Certificates, and the seconds that an answer may take.

    Raises:
        UsageError: The server does not answer, finds more than 1,000 studies, or one that was not asked for.
        ConfigError: A password stands in the address.
    """
    check_address(url)
    client = web_client(url, args)
    try:
        found = client.search_for_studies(search_filters=filters, limit=_MOST_STUDIES + 1)
        answers = [Dataset.from_json(study) for study in found]
        uids = [str(study.StudyInstanceUID) for study in answers]
    except Exception as error:  # the client raises whatever its network library does; words may hold identifiers
        raise UsageError(f"{url}: the query failed ({_cause(error)})") from error
    if len(uids) > _MOST_STUDIES:
        raise UsageError(f"{url}: more than {_MOST_STUDIES} studies; narrow the query")
    for keyword, wanted in filters.items():  # servers pass over what they don't know, and answer with everything
        if any(contradicts(study, keyword, wanted) for study in answers):
            raise UsageError(f"{url}: does not keep to {keyword} and finds other studies; nothing was fetched")
    studies = images = broken = 0
    for uid in uids:
        count, reason = _fetch(client, uid, spool)
        if reason:
            _log.warning("a study could not be fetched to its end: %s", reason)
            spool.ledger.refuse(f"fetching: {reason}")
        audit.note("fetched", url, uid, images=count, reason=reason)
        studies += count > 0
        images += count
        broken += bool(reason)
    return Fetched(studies, images, broken)


def _cause(error: Exception) -> str:
    """Say what went wrong, and where to look; the words of the error itself may hold identifiers."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"HTTP status {status}; user and password belong into ~/.netrc"
    if status is not None:
        return f"HTTP status {status}; is it the root of a service?"
    return f"{type(error).__name__}; does a service answer there?"


def contradicts(study: Dataset, keyword: str, wanted: str) -> bool:
    """Whether an answer shows that the server passed over a part of the query (DICOM PS3.4, C.2.2.2).

    Args:
        study: An answer.
        keyword: What was asked for; times and names have rules of their own and are not looked at.
        wanted: A value, a range of dates, several UIDs, or a pattern with `*` and `?`.
    """
    if keyword not in study or study[keyword].VR not in ("DA", "UI", "LO", "SH", "CS"):
        return False
    given = study[keyword].value
    values = [str(value).strip() for value in (given if isinstance(given, MultiValue) else [given]) if value]
    if not values:
        return False
    if study[keyword].VR == "DA" and "-" in wanted:
        first, _, last = wanted.partition("-")
        return not any(first <= value <= (last or value) for value in values)
    patterns = [text.strip().lower() for text in wanted.replace("\\", ",").split(",")]
    return not any(fnmatchcase(value.lower(), text) for value in values for text in patterns)


def _fetch(client: Any, study_uid: str, spool: Spool) -> tuple[int, str]:
    """Fetch one study; return the number of CT images, and why it is not whole."""
    count = 0
    try:
        with quiet_pydicom():
            for dataset in client.iter_study(study_uid):
                if dataset.get("SOPClassUID", "") in CT_CLASSES and (dataset.get("Modality") or "CT") == "CT":
                    content = io.BytesIO()
                    dataset.save_as(content, enforce_file_format=True)
                    write = partial(_write, content.getvalue())
                    spool.add(study_uid, str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID), write)
                    count += 1
    except Exception as error:  # of a network, a server or a decoder; its words may hold identifiers
        _log.debug("%s", wordless(error))
        return count, str(error) if isinstance(error, SpoolFullError) else type(error).__name__
    return count, ""


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)
