"""The worker's web pages: health for supervisors, metrics for Prometheus. Loopback by default."""

from typing import TYPE_CHECKING, Any

import faust
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from recsys.worker import Worker


def add_pages(app: faust.App, worker: "Worker") -> None:
    """Attach the pages to the app whose web server answers."""

    async def live(self: Any, request: Any) -> Any:
        failure = worker.failure()
        body = {"live": failure is None, "failure": None if failure is None else str(failure)}
        return self.json(body, status=200 if failure is None else 503)

    async def ready(self: Any, request: Any) -> Any:
        lanes = {
            each.group_id: {
                str(n): {
                    "ready": lane.ready.is_set(),
                    "restored": lane.restored[0],
                    "to_restore": lane.restored[1],
                }
                for n, lane in sorted(each.lanes.items())
            }
            for each in worker.workers
        }
        body = {
            "ready": worker.ready,
            "roles": list(worker.roles),
            "lag_records": sum(each.lag_records() for each in worker.workers),
            "lanes": lanes,
        }
        return self.json(body, status=200 if worker.ready else 503)

    async def metrics(self: Any, request: Any) -> Any:
        return self.bytes(generate_latest(), content_type=CONTENT_TYPE_LATEST.split(";")[0])

    app.page("/health/live", name="live")(live)
    app.page("/health/ready", name="ready")(ready)
    app.page("/metrics", name="metrics")(metrics)
