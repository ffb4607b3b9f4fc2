"""The refit's process: it does not outlive the worker that asked for it."""

import socket
import subprocess
import sys

WORKER = """
import asyncio, sys
from recsys.refit import Refits
from recsys.settings import Settings

async def main():
    refits = Refits(Settings(broker=sys.argv[1]))
    refits.consider(10**9)
    await asyncio.Future()

asyncio.run(main())
"""


def test_it_ends_with_a_worker_that_was_killed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # a broker that never answers
        server.settimeout(60)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with subprocess.Popen([sys.executable, "-c", WORKER, address]) as worker:
            asking, _ = server.accept()
            worker.kill()
        with asking:
            asking.settimeout(20)
            while asking.recv(4096):  # its end closes the connection
                pass
