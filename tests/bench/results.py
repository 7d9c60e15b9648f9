# SPDX-License-Identifier: GPL-2.0-only
"""Rows: samples of each side, their medians, the JSON and the table."""

import fnmatch
import json
import statistics

COLUMNS = ("ours", "peer", "native", "ceiling", "wire")


class Failed(Exception):
    """A side did not give what its row needs."""


class Row:
    """One figure of each side that it has, from samples taken in turns."""

    def __init__(self, name, unit, sides=("ours", "peer"), less=False, target=""):
        self.name = name
        self.unit = unit
        self.less = less  # less is better
        self.target = target
        self.samples = {side: [] for side in sides}
        self.details = {}

    def add(self, side, value):
        self.samples[side].append(float(value))

    def detail(self, name, value):
        self.details.setdefault(name, []).append(float(value))

    def median(self, side):
        return statistics.median(self.samples[side]) if self.samples.get(side) else None

    def ratio(self, other):
        """Above 1 where we are better."""
        ours, theirs = self.median("ours"), self.median(other)
        if not ours or not theirs:
            return None
        return theirs / ours if self.less else ours / theirs

    def runs(self):
        return min(len(values) for values in self.samples.values())

    def check(self, runs):
        for side, values in self.samples.items():
            if len(values) < runs:
                raise Failed(f"{self.name}: {side}: {len(values)} runs of {runs}")
            # a difference of two may be negative once, where the machine is not quiet
            if self.median(side) <= 0:
                raise Failed(f"{self.name}: {side}: {values}")

    def as_json(self):
        row = {"name": self.name, "unit": self.unit}
        row.update({side: self.median(side) for side in COLUMNS})
        row["ratio_peer"] = self.ratio("peer")
        row["ratio_ceiling"] = self.ratio("ceiling")
        row["ratio_wire"] = self.ratio("wire")
        row["runs"] = self.runs()
        row["less_is_better"] = self.less
        row["target"] = self.target
        row["min"] = {side: min(v) for side, v in self.samples.items()}
        row["max"] = {side: max(v) for side, v in self.samples.items()}
        row["details"] = {k: statistics.median(v) for k, v in self.details.items()}
        return row


def wanted(name, patterns):
    """A pattern names a row, and all rows below it: vm.rr is vm.rr.delay20, too."""
    return not patterns or any(
        fnmatch.fnmatch(name, p) or name.startswith(p + ".") for p in patterns)


def number(value):
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def spread(row, side):
    if row[side] is None:
        return "-"
    return f"{number(row[side])} ({number(row['min'][side])}..{number(row['max'][side])})"


def table_line(row):
    cells = [row["name"], row["unit"]]
    cells += [spread(row, side) for side in ("ours", "peer")]
    cells += [number(row[side]) for side in ("native", "ceiling", "wire")]
    cells += [number(row["ratio_peer"]), number(row["ratio_ceiling"]),
              number(row["ratio_wire"]), str(row["runs"])]
    return cells


HEAD = ["row", "unit", "ours (min..max)", "peer (min..max)", "native", "ceiling", "wire",
        "/peer", "/ceiling", "/wire", "runs"]
WIDTHS = [28, 16, 34, 34, 9, 9, 10, 7, 8, 7, 4]


def print_line(cells):
    text = "  ".join(f"{cell:<{width}}" if i < 2 else f"{cell:>{width}}"
                     for i, (cell, width) in enumerate(zip(cells, WIDTHS)))
    print(text, flush=True)


def write_json(path, rows):
    """Of this run only: figures of two runs do not stand beside each other."""
    with open(path, "w", encoding="utf-8") as to:
        to.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
