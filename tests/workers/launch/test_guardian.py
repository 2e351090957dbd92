"""What the guardian tells; how it watches is tested with the fork server that starts it."""

from __future__ import annotations

import os
from contextlib import suppress

from workers.launch.guardian import tell_use
from workers.machine.use import Use


def test_a_guardian_does_not_wait_for_a_worker_that_does_not_listen() -> None:
    """It would not see the end of the lease meanwhile."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write_end, b"x" * 4096)
    os.set_blocking(write_end, True)
    tell_use(write_end, Use(1, 2, None))
    os.read(read_end, 1 << 20)
    tell_use(write_end, Use(1, 2, None))
    assert os.read(read_end, 1 << 20).endswith(b'{"use": {"memory": 1, "peak": 2, "cores": null}}\n')
    os.close(read_end)
    os.close(write_end)
