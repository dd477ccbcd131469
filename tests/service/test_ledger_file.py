import gc

import pytest

from voco2d.errors import StoreError
from voco2d.service.ledger import Ledger


def test_a_damaged_ledger_is_named_with_the_way_out(tmp_path):
    (tmp_path / "node.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="damaged; delete it"):
        Ledger(tmp_path / "node.sqlite")


def test_a_change_waits_for_no_checkpoint_and_the_end_writes_one(tmp_path):
    """Each change wrote one where senders did not happen to overlap: images came in at a third of the pace."""
    ledger = Ledger(tmp_path / "node.sqlite")
    ledger.image("a")
    assert (tmp_path / "node.sqlite-wal").stat().st_size
    del ledger
    gc.collect()
    assert not (tmp_path / "node.sqlite-wal").exists()
    assert Ledger(tmp_path / "node.sqlite").counts() == {"receiving": 1}
