"""A worker's web pages: whoever holds connections open takes no more than their share."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import faust

from streams.loopback import free_ports
from streams.web_server import CONNECTIONS_MAX, BoundedWeb
from tests.streams.toy import until

HALF = b"GET /page HTTP/1.1\r\nHost: here\r\n"


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """A page, and its port."""
    (port,) = free_ports(1)
    app = faust.App(
        "pages", web_enabled=True, web_bind="127.0.0.1", web_port=port, store="memory://"
    )

    app.finalize()
    web = BoundedWeb(app)

    async def page(request: Any) -> Any:
        await request.read()
        return web.json({})

    web.web_app.router.add_route("*", "/page", page)
    await web.start()
    try:
        yield port
    finally:
        await web.stop()


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def asked(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HALF + b"Connection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10.0)
    await closed(writer)
    return answer


async def test_beyond_the_bound_the_eldest_connections_are_closed():
    async with served() as port:
        waiting = []
        for _ in range(CONNECTIONS_MAX + 30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HALF)
            waiting.append((reader, writer))
        await until(lambda: all(reader.at_eof() for reader, _ in waiting[:30]))
        assert not any(reader.at_eof() for reader, _ in waiting[-CONNECTIONS_MAX:])
        assert (await asked(port)).startswith(b"HTTP/1.1 200")
        for _, writer in waiting:
            await closed(writer)


async def test_a_request_that_never_ends_does_not_hold_up_the_stop():
    async with served() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HALF.replace(b"GET", b"POST") + b"Content-Length: 9\r\n\r\nhalf")
        assert (await asked(port)).startswith(b"HTTP/1.1 200")  # the other one is at work by now
        started = time.monotonic()
    assert time.monotonic() - started < 6.0
    await closed(writer)
