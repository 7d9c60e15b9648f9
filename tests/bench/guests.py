# SPDX-License-Identifier: GPL-2.0-only
"""vm.*, stall, cpu and checkpoint: real guests under load."""

import contextlib
import glob
import json
import os
import socket
import statistics
import subprocess

from results import Failed, Row
from worker import Guests

SIDES = ("ours", "peer", "native", "ceiling")
COLO = ("ours", "peer", "bare")
DELAY_MS = 20000
STALLS = 100


def in_turns(runs, sides):
    """Who is first changes from run to run."""
    for i in range(runs):
        at = i % len(sides)
        yield sides[at:] + sides[:at]


class Pool:
    """Guests of each way, once they are needed; who is not measured is idle."""

    def __init__(self):
        self.up = {}

    def get(self, sides):
        for side in sides:
            if side in self.up:
                continue
            # one after the other: guests that boot at once are slow to come up
            worker = self.up[side] = Guests(side)
            worker.ready()
            worker.where = json.loads(worker.ask("where")[0])
        return {side: self.up[side] for side in sides}

    def end(self):
        for worker in self.up.values():
            worker.end()
        self.up = {}


POOL = Pool()


def load_line(load, options, delay_ms=0):
    """Sizes are such that a transfer ends in the time, if QEMU's proxy does not stall it."""
    seconds = max(options.seconds, 2 * delay_ms / 1000)  # checkpoints are in it
    size = f" --size {5 if options.quick else 200}00000" if load in ("down", "up") else ""
    return f"{load}{size} --seconds {seconds}"


def mean(answers, field):
    return statistics.fmean(answer[field] for answer in answers)


# --- CPU time of the proxies ----------------------------------------------------------------

def schedstat(pid, tid=None):
    with open(f"/proc/{pid}/task/{tid or pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


def process_ns(pid):
    return sum(schedstat(pid, int(tid)) for tid in os.listdir(f"/proc/{pid}/task"))


def thread_named(pid, name):
    for path in glob.glob(f"/proc/{pid}/task/*/comm"):
        with open(path, encoding="ascii") as file:
            if file.read().startswith(name):
                return int(path.split("/")[4])
    raise Failed(f"process {pid} has no thread {name}")


def programs_ns(where):
    """Run time of all programs of both hosts' instances."""
    total = 0
    for pin in glob.glob(f"/sys/fs/bpf/colo-bpf/{where['id']}-*/progs/*"):
        shown = subprocess.run(["bpftool", "-j", "prog", "show", "pinned", pin], check=True,
                               capture_output=True, text=True).stdout
        total += json.loads(shown).get("run_time_ns", 0)
    return total


def main_loops_ns(where):
    """Where QEMU's filters and its side of the tap run: the threads of its main loops."""
    return sum(schedstat(where[name]) for name in ("qemu_p", "qemu_s") if name in where)


def proxy_ns(side, where):
    """The parts of what a proxy may have used; of QEMU's main loops the ceiling's is no proxy's."""
    if side == "ours":
        return {"programs": programs_ns(where),
                "daemons": sum(process_ns(where[d]) for d in ("daemon_p", "daemon_s"))}
    parts = {"main_loops": main_loops_ns(where)}
    if side == "peer":
        io = thread_named(where["qemu_p"], "IO iothread1")
        parts["iothread"] = schedstat(where["qemu_p"], io)
    return parts


@contextlib.contextmanager
def run_times():
    """Programs say how long they ran, which costs some: only here."""
    path = "/proc/sys/kernel/bpf_stats_enabled"
    with open(path, encoding="ascii") as file:
        before = file.read()
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write("1")
        yield
    finally:
        with open(path, "w", encoding="ascii") as file:
            file.write(before)


# --- rates, times and CPU time, from the same samples -------------------------------------

class Load:
    """What a client does, and the rows that come of it."""

    def __init__(self, name, line, field, unit, target, cpu=None, more=()):
        self.name = name
        self.line = line
        self.field = field  # of the client's answer
        self.unit = unit
        self.target = target
        self.cpu = cpu  # name, field, how many of it, unit
        self.more = more  # what else is measured: of LIMITS

    def names(self):
        tail = [self.name + ".p99"] if self.field == "rate" else []
        return [self.name] + tail + ([self.cpu[0]] if self.cpu else [])


PER_REQUESTS = ("requests", 1e5, "CPU s/100k requests")
PER_BYTES = ("bytes", 1e9, "CPU s/GB")
LOADS = (
    Load("vm.rr", "rr", "rate", "requests/s", "peer x 1.8, ceiling x 0.85",
         ("cpu.rr", *PER_REQUESTS), ("lockstep",)),
    Load("vm.rr16k", "rr --size 16384", "rate", "requests/s", "peer x 1.8, ceiling x 0.85",
         more=("lockstep",)),
    Load("vm.http", "http", "rate", "requests/s", "peer x 10, ceiling x 0.85",
         ("cpu.http", *PER_REQUESTS)),
    Load("vm.down", "down", "MBps", "MB/s", "peer x 2, ceiling x 0.75", ("cpu.down", *PER_BYTES)),
    Load("vm.up", "up", "MBps", "MB/s", "peer x 1.5, ceiling x 0.75", ("cpu.up", *PER_BYTES)),
)
# Samples besides a row's sides, for its details: whose, and how.
LIMITS = {"lockstep": ("ceiling", "lockstep"), "no_proxy": ("bare", "load")}
DELAYS = {200: "peer x 3", 20: "peer x 10"}


def requests(worker):
    return int(worker.ask("requests")[0])


def sample(worker, line):
    """What its clients say, what the proxy took, and what it asked for."""
    ours = worker.name == "ours"
    asked = requests(worker) if ours else 0
    before = proxy_ns(worker.name, worker.where)
    answers = worker.load(line)
    after = proxy_ns(worker.name, worker.where)
    used = {part: (after[part] - before[part]) / 1e9 for part in after}
    return answers, used, requests(worker) - asked if ours else 0


class Rows:
    """Of one load."""

    def __init__(self, load):
        self.load = load
        self.rate = Row(load.name, load.unit, SIDES, target=load.target)
        self.tail = Row(load.name + ".p99", "ms", SIDES, less=True,
                        target="native + 10 ms" if load.name == "vm.http" else "")
        self.cpu = None
        if load.cpu:
            self.cpu = Row(load.cpu[0], load.cpu[3], ("ours", "peer"), less=True,
                           target="peer / 5")

    def add(self, samples):
        """A turn's, of all sides."""
        took = {}
        for side, (answers, cpu, asked) in samples.items():
            self.rate.add(side, mean(answers, self.load.field))
            self.tail.add(side, mean(answers, "p99_us") / 1000)
            if side == "ours":
                self.rate.detail("checkpoints_asked_for", asked)
            if self.cpu:
                per = self.load.cpu[2] / mean(answers, self.load.cpu[1])
                took[side] = sum(cpu.values()) * per
                if side == "ours":
                    for part, seconds in cpu.items():
                        self.cpu.detail(part, seconds * per)
        if self.cpu:
            self.cpu.add("ours", took["ours"])
            # the ceiling's two main loops have done as much without a proxy
            self.cpu.add("peer", took["peer"] - took["ceiling"])
            self.cpu.detail("peer_with_main_loops", took["peer"])

    def add_limit(self, name, answers):
        self.rate.detail(name, mean(answers, self.load.field))

    def all(self):
        yield self.rate
        if self.load.field == "rate":
            yield self.tail
        if self.cpu:
            yield self.cpu


@contextlib.contextmanager
def delayed(worker, delay_ms):
    """Its checkpoints come so often meanwhile; who is not measured has few."""
    if not delay_ms or worker.name not in COLO:
        yield
        return
    worker.ask(f"delay {delay_ms}")
    try:
        yield
    finally:
        worker.ask(f"delay {DELAY_MS}")


def measure(up, load, options, delay_ms=0):
    rows = Rows(load)
    line = load_line(load.line, options, delay_ms)
    for side in SIDES:
        up[side].load(line)
    for turn in in_turns(options.runs, SIDES):
        samples = {}
        for side in turn:
            with delayed(up[side], delay_ms):
                samples[side] = sample(up[side], line)
        rows.add(samples)
        for name in load.more:
            side, command = LIMITS[name]
            with delayed(up[side], delay_ms):
                rows.add_limit(name, up[side].clients(command, line))
    return rows


def rates(up, options):
    with run_times():
        for load in LOADS:
            if options.wants(*load.names()):
                yield from measure(up, load, options).all()


def delays(up, options):
    for delay, target in DELAYS.items():
        load = Load(f"vm.rr.delay{delay}", "rr", "rate", "requests/s", target,
                    more=("no_proxy",))
        if not options.wants(load.name):
            continue
        yield measure(up, load, options, delay).rate


# --- checkpoints -----------------------------------------------------------------------------

class Monitor:
    """QEMU's events, with its own time stamps."""

    def __init__(self, worker):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.path.join(worker.where["dir"], "p.qmp-bench"))
        self.socket.settimeout(10)
        self.text = b""
        self.read()
        self.socket.sendall(b'{"execute": "qmp_capabilities"}')
        while "return" not in self.read():
            pass

    def read(self):
        while b"\n" not in self.text:
            got = self.socket.recv(65536)
            if not got:
                raise Failed("QEMU's monitor has closed")
            self.text += got
        line, self.text = self.text.split(b"\n", 1)
        return json.loads(line)

    def stops(self, count):
        """For how long each of the next checkpoints stops the primary, ms."""
        took, begun = [], None
        while len(took) < count:
            event = self.read()
            at = event["timestamp"]["seconds"] * 1000 + event["timestamp"]["microseconds"] / 1000
            if event["event"] == "STOP":
                begun = at
            elif event["event"] == "RESUME" and begun:
                took.append(at - begun)
        return took

    def close(self):
        self.socket.close()


def how_many(options):
    """Checkpoints of a sample, so that all have as many as there are to be."""
    return -(-(STALLS // 4 if options.quick else STALLS) // options.runs)


def stops_of(worker, count):
    monitor = Monitor(worker)
    try:
        return monitor.stops(count)
    finally:
        monitor.close()


def checkpoint(up, options):
    """Idle guests: all that differs between the ways is what hooks and proxies do."""
    row = Row("checkpoint", "ms stopped", ("ours", "peer", "ceiling"), less=True,
              target="ceiling + 0.3 ms")
    count = how_many(options)
    for turn in in_turns(options.runs, COLO):
        for side in turn:
            with delayed(up[side], 100):
                value = statistics.median(stops_of(up[side], count))
            row.add("ceiling" if side == "bare" else side, value)
    yield row


def longest_gaps(worker, count, seconds):
    """Of as many checkpoints, the longest silences of a client that asks all the time."""
    path = os.path.join(worker.where["dir"], "gaps")
    worker.load(f"rr --seconds {seconds} --gaps {path}")
    with open(path, encoding="ascii") as file:
        gaps = sorted((float(line) for line in file), reverse=True)
    return gaps[:count]


def stall(up, options):
    """A checkpoint each 200 ms; one of them is one of the longest silences."""
    row = Row("stall", "ms", ("ours", "peer", "ceiling"), less=True, target="ceiling + 2 ms")
    worst = Row("stall.longest", "ms", ("ours", "peer", "ceiling"), less=True)
    count = how_many(options)
    for turn in in_turns(options.runs, COLO):
        for side in turn:
            with delayed(up[side], 200):
                gaps = longest_gaps(up[side], count, count * 0.21)
            side = "ceiling" if side == "bare" else side
            row.add(side, statistics.median(gaps))
            worst.add(side, gaps[0])
    yield row
    yield worst


# --- what there is -----------------------------------------------------------------------------

PARTS = (
    # rows, sides that have to be up, what measures
    ([name for load in LOADS for name in load.names()], SIDES, rates),
    ([f"vm.rr.delay{delay}" for delay in DELAYS], SIDES + ("bare",), delays),
    (["stall", "stall.longest"], COLO, stall),
    (["checkpoint"], COLO, checkpoint),
)


def group(sides, part):
    return lambda options: part(POOL.get(sides), options)


GROUPS = [(names, group(sides, part)) for names, sides, part in PARTS]
