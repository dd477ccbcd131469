"""Opens a connection to a DICOMweb server."""

from typing import Any

from voco2d.extras import require
from voco2d.service.node_args import NodeArgs


def web_client(url: str, args: NodeArgs) -> Any:
    """Return a client that asks for nothing longer than the node's timeout.

    Users and passwords are taken from `~/.netrc`, or the file that the variable `NETRC` names.

    Args:
        url: Root of the service.
        args: With the authorities that a server's certificate is checked by, and our own certificate for one that asks.

    Raises:
        UsageError: dicomweb-client is missing.
    """
    api = require("dicomweb_client.api", "dicom", "DICOMweb")
    sessions = require("dicomweb_client.session_utils", "dicom", "DICOMweb")
    session = sessions.create_session()
    if args.authorities is not None:
        session.verify = str(args.authorities)
    if args.certificate is not None:
        session.cert = (str(args.certificate), str(args.key))
    return api.DICOMwebClient(url=url, session=session, timeout=args.timeout_s)
