"""A membership of a group that outlives its process, so that the next one can give it up.

A group waits a whole session for a member that was killed. Its name lies beside the process's
data, under a lock that ends with the process: whoever starts next on the same data leaves the group
in its name, and need not wait.
"""

import contextlib
import fcntl
import os
from pathlib import Path

import structlog
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from streams.admin import AdminError, admin_client
from streams.connection import Connection

log = structlog.get_logger(__name__)

NAME_BYTES_MAX = 1024


class Membership:
    """The name under which a process is in a group, in a file that one process holds at a time."""

    def __init__(self, path: Path, group_id: str) -> None:
        self._path = path
        self._group_id = group_id
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether the file is this process's, so that nobody else works on the same data."""
        return self._file is not None

    def hold(self) -> str:
        """Lock the file, if nobody has it; the name that a process before us left in it, or ''."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a process that lives works on the same data
            os.close(file)
            return ""
        self._file = file
        return os.pread(file, NAME_BYTES_MAX, 0).decode("utf-8", "replace")

    async def leave_former(self, connection: Connection) -> bool:
        """Leave the group for a process before us that could not; whether there was one."""
        if not (name := self.hold()):
            return False
        try:
            async with admin_client(connection) as client:
                node = await client.find_coordinator(self._group_id)
                await client._send_request_to_node(node, LeaveGroupRequest(self._group_id, name))
        except (AdminError, KafkaError, OSError) as error:  # then the session's end does it
            log.warning("membership.stays", group=self._group_id, error=str(error))
            return False
        log.info("membership.left", group=self._group_id)
        self.joined("")
        return True

    def joined(self, name: str) -> None:
        """Keep the name that the group gave us; '' where we have left."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, name.encode(), 0)

    def close(self) -> None:
        """Let the next process have the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None
