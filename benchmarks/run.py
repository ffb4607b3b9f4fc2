"""Run the benchmarks: `python -m benchmarks.run [--only NAME ...] [--quick]`.

Writes `results.json`, `speed.md` and pictures beside this file, or into `--out`. CPU times are of
the contender's own process; events/s depend on what else the machine does, ratios less so.
"""

import argparse
import importlib
import platform
import tempfile
import time
from pathlib import Path

from benchmarks import report
from benchmarks.bench import Bench
from streams.broker import open_broker
from streams.connection import Connection

NAMES = (
    "throughput", "recommender", "freshness", "scale", "kernels", "memory", "replay", "restore",
    "encoding",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME",
                        help=", ".join(NAMES))  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a smoke run: small, no rivals")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    command = "python -m benchmarks.run" + (" --quick" if given.quick else "")
    with tempfile.TemporaryDirectory(prefix="recsys-bench-") as folder, open_broker() as broker:
        pids = [node.pid for node in broker.local.nodes if node.pid] if broker.local else []
        bench = Bench(Connection(broker.bootstrap), Path(folder), given.quick, pids)
        for name in given.only:
            print(name, flush=True)
            started = time.monotonic()
            tables = importlib.import_module(f"benchmarks.{name}").run(bench)
            machine = f"{platform.machine()}, Python {platform.python_version()}"
            report.keep(given.out, name, tables, {
                "command": f"{command} --only {name}",
                "machine": machine,
                "seconds": round(time.monotonic() - started),
            })  # fmt: skip
    report.write(given.out, NAMES)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
