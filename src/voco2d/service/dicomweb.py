"""Fetches studies from a DICOMweb server: QIDO-RS and WADO-RS (DICOM PS3.18, 10.6 and 10.4)."""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from voco2d.errors import UsageError
from voco2d.extras import require
from voco2d.service.audit import Audit
from voco2d.service.dicom_node import CT_CLASSES
from voco2d.service.spool import Spool

_MOST_STUDIES = 1000


def fetch_studies(url: str, filters: dict[str, str], spool: Spool, audit: Audit) -> tuple[int, int]:
    """Fetch the CT images of every study that a query finds into the spool, where they wait to be graded.

    Args:
        url: Root of the service.
        filters: Attribute → value of the query, for example `StudyDate`.
        spool: Where images go.
        audit: Told what was fetched.

    Returns:
        Number of studies with CT images, and of images.

    Raises:
        UsageError: The server does not answer, or finds more than 1,000 studies.
    """
    web = require("dicomweb_client.api", "dicom", "fetching from a DICOMweb server")
    client = web.DICOMwebClient(url=url)
    try:
        found = client.search_for_studies(search_filters=filters, limit=_MOST_STUDIES + 1)
    except Exception as error:  # the client raises whatever its network library does; words may hold identifiers
        raise UsageError(f"{url}: the query failed ({type(error).__name__}); is it the root of a service?") from error
    if len(found) > _MOST_STUDIES:
        raise UsageError(f"{url}: more than {_MOST_STUDIES} studies; narrow the query")
    studies = images = 0
    for study in found:
        uid = str(Dataset.from_json(study).StudyInstanceUID)
        fetched = sum(1 for _ in _fetch(client, uid, spool))
        audit.note("fetched", url, uid, images=fetched)
        studies += fetched > 0
        images += fetched
    return studies, images


def _fetch(client: Any, study_uid: str, spool: Spool) -> Iterator[str]:
    for dataset in client.iter_study(study_uid):
        if dataset.get("SOPClassUID", "") in CT_CLASSES:
            content = io.BytesIO()
            dataset.save_as(content, enforce_file_format=True)
            write = partial(_write, content.getvalue())
            yield spool.add(study_uid, str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID), write)


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)
