"""A process keeps to the CPUs that it is told, all its threads with it, or leaves them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams import cpus

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not keep processes on CPUs"
)
MINE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
WHERE = """
import json, os, sys, threading
from streams import cpus

end = threading.Event()
threading.Thread(target=end.wait, daemon=True).start()
{do}
threading.Thread(target=end.wait, daemon=True).start()
threads = os.listdir("/proc/self/task")
print(json.dumps([sorted(os.sched_getaffinity(int(thread))) for thread in threads]))
print(cpus.usable())
"""


def places(do):
    command = [sys.executable, "-c", WHERE.format(do=do)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    where, usable = told.splitlines()
    return json.loads(where), int(usable)


def test_threads_that_run_and_that_come_keep_to_it():
    assert places(f"cpus.run_on([{MINE[-1]}])") == ([[MINE[-1]]] * 3, 1)


def test_without_any_all_stays_as_it_is():
    assert places("cpus.run_on([]); cpus.leave([])") == ([MINE] * 3, len(MINE))


@pytest.mark.skipif(len(MINE) < 2, reason="there is one CPU")
def test_who_leaves_them_runs_on_the_others():
    assert places(f"cpus.run_on([{MINE[0]}]); cpus.leave([{MINE[0]}])")[0] == [MINE[1:]] * 3


@pytest.mark.skipif(len(MINE) < 2, reason="there is one CPU")
def test_where_a_parent_was_kept_binds_nobody():
    assert places(f"cpus.run_on([{MINE[0]}]); cpus.run_on([{MINE[1]}])")[0] == [[MINE[1]]] * 3


def test_who_has_nowhere_else_to_go_stays():
    assert places(f"cpus.leave(range({os.cpu_count()}))")[0] == [MINE] * 3


def test_what_is_not_there_is_named():
    with pytest.raises(cpus.CpusError, match="can not run on CPU 9999"):
        cpus.run_on([MINE[0], 9999])
    assert sorted(os.sched_getaffinity(0)) == MINE


def test_a_system_that_knows_no_such_thing_says_so(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(cpus.CpusError, match="does not keep processes"):
        cpus.run_on([0])
    cpus.leave([0])
