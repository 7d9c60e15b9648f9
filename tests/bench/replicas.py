# SPDX-License-Identifier: GPL-2.0-only
"""replicas.*: the whole data path without guests."""

from results import Row
from worker import Guests

SIDES = ("ours", "wire")
LOADS = (
    ("replicas.http", "http", "rate", "requests/s"),
    ("replicas.rr", "rr", "rate", "requests/s"),
    ("replicas.down", "down --size 50000000", "MBps", "MB/s"),
    ("replicas.up", "up --size 50000000", "MBps", "MB/s"),
)


def replicas(options):
    up = {side: Guests(side, "replicas") for side in SIDES}
    try:
        for side in SIDES:
            up[side].ready()
        for name, load, field, unit in LOADS:
            if not options.wants(name):
                continue
            row = Row(name, unit, SIDES, target="wire x 0.7")
            for i in range(options.runs):
                for side in SIDES if i % 2 else SIDES[::-1]:
                    answer, = up[side].load(f"{load} --seconds {options.seconds}")
                    row.add(side, answer[field])
            yield row
    finally:
        for worker in up.values():
            worker.end()


GROUPS = [([name for name, *_ in LOADS], replicas)]
