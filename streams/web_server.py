"""The server of a worker's web pages: Faust's, with the bounds that it has none of.

Somebody who opens connections and asks nothing whole would take every file descriptor of the
worker, and one request that never ends would hold up its stop.
"""

from typing import Any

from faust.web.drivers.aiohttp import AppRunner, Web

CONNECTIONS_MAX = 64  # for a supervisor and a few Prometheus servers
LOOK_S = 0.5
STOP_S = 1.0  # for requests that are under way at the stop


class BoundedWeb(Web):  # type: ignore[misc]
    """Beyond `CONNECTIONS_MAX` open connections the eldest are closed."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._runner = AppRunner(self.web_app, access_log=None, shutdown_timeout=STOP_S)

    async def start_server(self) -> None:
        """Serve, and keep to the bound."""
        await super().start_server()
        self.add_future(self._close_eldest())

    async def _close_eldest(self) -> None:
        while not self.should_stop:
            if (server := self._runner.server) is not None:
                for connection in server.connections[:-CONNECTIONS_MAX]:  # the eldest come first
                    connection.force_close()
            await self.sleep(LOOK_S)
