import logging
import threading
import warnings

from voco2d.io.dicom_quiet import quiet_pydicom


def test_it_ends_with_the_last_of_several_threads() -> None:
    """One that left first would have put back what another still needed, or left pydicom silent for ever."""
    log, before = logging.getLogger("pydicom"), warnings.filters[:]
    level = log.level
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with quiet_pydicom():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with quiet_pydicom():
        thread.start()
        assert entered.wait(10)
    assert log.level > logging.CRITICAL
    leave.set()
    thread.join()
    assert (log.level, warnings.filters) == (level, before)
