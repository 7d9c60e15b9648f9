# SPDX-License-Identifier: GPL-2.0-only
"""replicas.*: the whole data path without guests."""

from guests import in_turns, load_line
from results import Row
from worker import Guests

SIDES = ("ours", "peer", "wire")
LOADS = (
    ("replicas.http", "http", "rate", "requests/s"),
    ("replicas.rr", "rr", "rate", "requests/s"),
    ("replicas.down", "down", "MBps", "MB/s"),
    ("replicas.up", "up", "MBps", "MB/s"),
)


def checkpoints(up):
    return int(up["peer"].ask("checkpoints")[0])


def replicas(options):
    up = {side: Guests(side, "replicas") for side in SIDES}
    try:
        for side in SIDES:
            up[side].ready()
        for name, load, field, unit in LOADS:
            if not options.wants(name):
                continue
            row = Row(name, unit, SIDES, target="wire x 0.7")
            before = checkpoints(up)
            for turn in in_turns(options.runs, SIDES):
                for side in turn:
                    answer, = up[side].load(load_line(load, options))
                    row.add(side, answer[field])
            row.detail("peer_checkpoints", (checkpoints(up) - before) / options.runs)
            yield row
    finally:
        for worker in up.values():
            worker.end()


GROUPS = [([name for name, *_ in LOADS], replicas)]
