"""`python -m tests.bench`: measure, and print a table (or JSON)."""

import argparse
import signal
import sys
from collections.abc import Callable

import msgspec

from tests.bench import commands, idle, latency, output, pause, peers, postgres, report, scale, throughput
from tests.bench.report import Figure, Machine

ROWS: dict[str, Callable[[bool], list[Figure]]] = {
    "throughput": throughput.throughput,
    "peers": peers.peers,
    "flat": throughput.flat,
    "enqueue": commands.enqueue,
    "alone": commands.alone,
    "questions": commands.questions,
    "bulk": commands.bulk,
    "pickup": latency.pick_up,
    "timers": latency.timers,
    "idle": idle.idle,
    "open": scale.opening,
    "memory": scale.memory,
    "breadth": scale.breadth,
    "pause": pause.pause,
    "output": output.output,
    "turnover": postgres.turnover,
    "backlog": postgres.backlog,
    "horizon": postgres.horizon,
    "shared-throughput": postgres.shared_throughput,
    "shared-pickup": postgres.shared_pick_up,
    "shared-idle": postgres.shared_idle,
}
"""Every measurement by its name, in the order of the table."""
LONG = frozenset({"turnover", "backlog", "horizon", "shared-idle"})
"""Those that take seconds however small they are: `--quick` leaves them out, unless they are asked for by name."""


def main() -> None:
    """Take the measurements that are asked for."""
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, less of a database: under 30 s")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=ROWS, help=f"only these: {', '.join(ROWS)}")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as for Ctrl-C: what was started is ended
    where = Machine.now()
    figures: list[Figure] = []
    for name in asked.only or [name for name in ROWS if not (asked.quick and name in LONG)]:
        sys.stderr.write(f"measuring {name}\n")
        figures += ROWS[name](asked.quick)
    if asked.json:
        document = msgspec.json.encode(report.document(figures, where, quick=asked.quick))
        sys.stdout.write(msgspec.json.format(document, indent=2).decode() + "\n")
    else:
        report.show(figures, where, quick=asked.quick, terminal=sys.stdout.isatty())


if __name__ == "__main__":
    main()
