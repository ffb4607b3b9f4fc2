"""The table of faults: tried, survived, lost, doubled; for people and for machines."""

import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from recsys.conservation import Account
from recsys.soak.faults import Tally
from recsys.soak.traffic import ORDINARY

SECONDS = ("first_list_p50_s", "first_list_max_s", "all_lanes_max_s")


@dataclass
class Report:
    """The rows of the table, and what the account found."""

    rows: list[Tally] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    traffic: dict[str, Counter[str]] = field(default_factory=dict)  # kinds of records, by shop
    memory_mb: list[float] = field(default_factory=list)  # of one worker, at each account
    load: list[float] = field(default_factory=list)  # of the machine, at each account
    drained_s: list[float] = field(default_factory=list)  # until nothing waited, after each fault

    def add(self, rows: Sequence[Tally]) -> None:
        """Take rows in that are not in yet."""
        self.rows += [row for row in rows if row not in self.rows]

    @property
    def holds(self) -> bool:
        """Everything survived, nothing lost, nothing doubled."""
        return (
            bool(self.accounts)
            and all(account.holds for account in self.accounts)
            and all(
                row.tried == row.survived and not row.lost and not row.doubled for row in self.rows
            )
        )

    @property
    def findings(self) -> list[str]:
        """What was found wrong or is worth a look, in words."""
        noted = [f"{row.fault}: {note}" for row in self.rows for note in row.notes]
        return [each for account in self.accounts for each in account.findings] + noted


def as_rows(report: Report) -> list[dict[str, object]]:
    """The table: what was broken, then what was odd in the traffic all the while."""
    rows = [
        _row(each.fault, each.tried, each.survived, each.lost, each.doubled, each)
        for each in report.rows
    ]
    lost = sum(account.lost for account in report.accounts)
    doubled = sum(account.doubled for account in report.accounts)
    kinds = sum(report.traffic.values(), Counter())
    del kinds[ORDINARY]
    for kind, count in kinds.items():  # which of them was lost is in the findings
        rows.append(_row(kind, count, max(0, count - lost - doubled), lost, doubled))
    return rows


def _row(
    fault: str, tried: int, survived: int, lost: int, doubled: int, tally: Tally | None = None
) -> dict[str, object]:
    first_s, all_s = (tally.first_s, tally.all_s) if tally is not None else ([], [])
    seconds = (
        (statistics.median(first_s), max(first_s), max(all_s)) if first_s else (None, None, None)
    )
    return {
        "fault": fault, "tried": tried, "survived": survived, "lost": lost, "doubled": doubled,
        **{name: s if s is None else round(s, 1) for name, s in zip(SECONDS, seconds, strict=True)},
    }  # fmt: skip


def as_markdown(rows: Sequence[dict[str, object]]) -> str:
    """The table as Markdown."""
    lines = [
        "| fault | tried | survived | lost | doubled "
        "| first new list after, median | at most | all lanes after, at most |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        counts = " | ".join(str(row[name]) for name in ("tried", "survived", "lost", "doubled"))
        seconds = " | ".join("" if row[name] is None else f"{row[name]} s" for name in SECONDS)
        lines.append(f"| {row['fault']} | {counts} | {seconds} |")
    return "\n".join(lines) + "\n"


def as_document(report: Report, command: str) -> str:
    """The table with what it takes to read it."""
    accepted = max((account.accepted for account in report.accounts), default=0)
    letters = max((account.dead_letters for account in report.accounts), default=0)
    load = f"{min(report.load, default=0):.0f} to {max(report.load, default=0):.0f}"
    memory = ", ".join(f"{each:.0f}" for each in report.memory_mb)
    drained = (
        f"All that waited was done {statistics.median(report.drained_s):.1f} s (median), at most "
        f"{max(report.drained_s):.1f} s after lists flowed again.\n\n"
        if report.drained_s
        else ""
    )
    return (
        f"`{command}` on {os.cpu_count()} cores with a load of {load}, "
        f"{datetime.now(UTC):%Y-%m-%d}. After every group of faults all events were accounted for "
        f"(up to {accepted:,} a broker, with {letters:,} dead letters) and the state was compared, "
        f"by digest, with an undisturbed run of the same log.\n\n"
        f"{as_markdown(as_rows(report))}\n{drained}"
        f"Resident memory of a worker at each account, MB: {memory}.\n"
        + "".join(f"- {finding}\n" for finding in report.findings)
    )
