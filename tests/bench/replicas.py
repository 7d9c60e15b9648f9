# SPDX-License-Identifier: GPL-2.0-only
"""replicas.*: the whole data path without guests."""

from guests import in_turns, load_line
from results import Failed, Row
from worker import Guests

SIDES = ("ours", "peer", "wire")
CONTEXTS = ("tc", "xdp")
LOADS = (
    ("http", "rate", "requests/s"),
    ("rr", "rate", "requests/s"),
    ("down", "MBps", "MB/s"),
    ("up", "MBps", "MB/s"),
)


def name_of(context, load):
    return f"replicas.{load}" if context == "tc" else f"replicas.{context}.{load}"


def names(context):
    return [name_of(context, load) for load, *_ in LOADS]


def checkpoints(up):
    return int(up["peer"].ask("checkpoints")[0])


def by_xdp(up):
    return int(up["ours"].ask("xdp_matched")[0])


def measure(up, row, load, field, options):
    for turn in in_turns(options.runs, SIDES):
        for side in turn:
            answer, = up[side].load(load_line(load, options))
            row.add(side, answer[field])


def replicas(context, options):
    up = {side: Guests(side, "replicas", context) for side in SIDES}
    try:
        for side in SIDES:
            up[side].ready()
        for load, field, unit in LOADS:
            if not options.wants(name_of(context, load)):
                continue
            row = Row(name_of(context, load), unit, SIDES, target="wire x 0.7")
            before, matched = checkpoints(up), by_xdp(up)
            measure(up, row, load, field, options)
            row.detail("peer_checkpoints", (checkpoints(up) - before) / options.runs)
            if context == "xdp":
                matched = by_xdp(up) - matched
                if not matched:
                    raise Failed(f"{row.name}: XDP has matched nothing")
                row.detail("xdp_matched", matched / options.runs)
            yield row
    finally:
        for worker in up.values():
            worker.end()


GROUPS = [(names(context), lambda options, context=context: replicas(context, options))
          for context in CONTEXTS]
