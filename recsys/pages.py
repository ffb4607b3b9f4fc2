"""The worker's web pages: health for supervisors, metrics for Prometheus. Loopback by default."""

from typing import TYPE_CHECKING, Any

import faust
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from recsys.metrics import WorkerCollector

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
        lag, bound = worker.lag_records(), worker.settings.worker.ready_lag_records_max
        fit = worker.ready and lag <= bound
        body = {
            "ready": fit,
            "roles": list(worker.roles),
            "lag_records": lag,
            "lag_records_max": bound,
            "lanes": lanes,
        }
        if worker.image_reader is not None:
            body["classifier_refused"] = worker.image_reader.refused
        return self.json(body, status=200 if fit else 503)

    async def metrics(self: Any, request: Any) -> Any:
        pages = generate_latest() + generate_latest(mine)
        return self.bytes(pages, content_type=CONTENT_TYPE_LATEST.split(";")[0])

    mine = CollectorRegistry()
    mine.register(WorkerCollector(worker))
    app.page("/health/live", name="live")(live)
    app.page("/health/ready", name="ready")(ready)
    app.page("/metrics", name="metrics")(metrics)
