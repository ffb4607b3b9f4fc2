"""Where a group stands, as its coordinator tells: "I am loading" must not pass for "nowhere".

Since version 2 of the answer a coordinator that is loading its groups, or has lost them to another
broker, says so once for all partitions and names none of them. aiokafka looks at the partitions
alone and takes it for a group without offsets, so whoever asked began at the start of the log and
learned all of it once more.
"""

from typing import Any

from aiokafka import errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetFetchResponse_v2, OffsetFetchResponse_v3

_send = GroupCoordinator._send_req


def install() -> None:
    """Let every consumer of this process ask so."""
    GroupCoordinator._send_req = send_checked


async def send_checked(coordinator: GroupCoordinator, request: Any) -> Any:
    """In the place of aiokafka's `_send_req`; an error of all offsets is raised, to be retried.

    Raises KafkaError.
    """
    response = await _send(coordinator, request)
    if isinstance(response, OffsetFetchResponse_v2 | OffsetFetchResponse_v3) and (
        response.error_code
    ):
        error = errors.for_code(response.error_code)
        if error in (errors.NotCoordinatorForGroupError, errors.GroupCoordinatorNotAvailableError):
            coordinator.coordinator_dead()
        raise error(f"offsets of group {coordinator.group_id}")
    return response
