# SPDX-License-Identifier: GPL-2.0-only
"""proxy.*: the proxies alone, fed with the same pairs of frames."""

from results import Row
from worker import Proxy

KINDS = ("tcp64", "tcp1448", "tcp64k", "udp64")
# "": tc. The fast path in XDP is for plain segments of TCP.
CONTEXTS = {"": KINDS, "xdp": ("tcp64", "tcp1448")}
FLOWS = (1, 64, 10000)
WINDOWS = (64, 1024)
SIDES = ("ours", "peer")
HELD = (1, 64, 4096, 65536)
RESIDENT = ((1000, "1k"), (100000, "100k"), (1000000, "1m"))
ACTIVE = 1000


def in_turns(runs, sides=SIDES):
    """Each run has both sides, which are first by turns."""
    for i in range(runs):
        yield sides if i % 2 else sides[::-1]


def rate(took, what):
    return took["pairs"] * 1e9 / took[what]


class Both:
    """Two sides, open for the same frames; ours in a context."""

    def __init__(self, sides=SIDES, context=""):
        self.sides = sides
        self.side = {name: Proxy(context if context and name == "ours" else name)
                     for name in sides}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for side in self.side.values():
            side.end()

    def ask(self, line):
        for side in self.side.values():
            side.ask(line)

    def open(self, kind, flows, held=1024):
        self.ask("close")
        self.ask(f"open {kind} {flows} {held}")
        self.ask("fill")


# --- throughput ---------------------------------------------------------------------

def under(kind, context):
    return f"proxy.{kind}" + (f".{context}" if context else "")


def rates_of(kind, context, flows, window):
    name = f"{under(kind, context)}.f{flows}.w{window}"
    sides = SIDES + ("wire",)
    return (Row(name + ".cpu", "pairs/s of CPU", sides), Row(name + ".wall", "pairs/s", sides))


def measure_rates(both, rows, flows, window, options):
    cpu, wall = rows
    command = f"{flows} {window} {options.ms}"
    both.ask(f"run {flows} {window} {options.ms // 4}")  # caches, branch predictors
    for turn in in_turns(options.runs):
        for name in turn:
            took = both.side[name].ask("run " + command)
            cpu.add(name, rate(took, "cpu_ns"))
            if name == "peer":
                wall.add(name, rate(took, "wall_ns"))
                continue
            cpu.detail("daemon_ns_per_pair", took["daemon_ns"] / took["pairs"] or 1e-9)
            raced = both.side[name].ask("race " + command)
            # one CPU may be faster than two that wait for each other
            wall.add(name, max(rate(took, "wall_ns"), rate(raced, "wall_ns")))
            plain = both.side[name].ask(f"wire {flows} {options.ms}")
            cpu.add("wire", rate(plain, "cpu_ns"))
            wall.add("wire", rate(plain, "wall_ns"))
    profile(both, cpu, command)
    return cpu, wall


def profile(both, row, command):
    """Apart from the runs that count: taking run times takes time."""
    ours = both.side["ours"]
    ours.ask("stats on")
    took = ours.ask("run " + command)
    ours.ask("stats off")
    row.detail("program_ns_per_pair", took["program_ns"] / took["pairs"])


def best(rows, name, unit, target):
    """Of each number of flows the best window of each side, of these the worst."""
    chosen = None
    for flows in FLOWS:
        rates = [row for row in rows if f".f{flows}." in row.name]
        ours = max(rates, key=lambda row: row.median("ours"))
        peer = max(rates, key=lambda row: row.median("peer"))
        row = Row(name, unit, target=target)
        row.samples = {"ours": ours.samples["ours"], "peer": peer.samples["peer"],
                       "wire": ours.samples["wire"]}
        row.details = ours.details
        if not chosen or row.ratio("peer") < chosen.ratio("peer"):
            chosen = row
    return chosen


TARGETS = {"": ("peer x 5", ""), "xdp": ("peer x 10", "peer x 5")}


def throughput(kind, context, options):
    summary = names_of_best(kind, context)
    with Both(context=context) as both:
        cpus, walls = [], []
        for flows in FLOWS:
            windows = {window: rows for window in WINDOWS
                       for rows in [rates_of(kind, context, flows, window)]
                       if options.wants(*summary, *(row.name for row in rows))}
            if windows:
                both.open(kind, flows)
            for window, rows in windows.items():
                cpu, wall = measure_rates(both, rows, flows, window, options)
                cpus.append(cpu)
                walls.append(wall)
                yield from (cpu, wall)
        if options.wants(*summary):
            cpu_target, wall_target = TARGETS[context]
            yield best(cpus, summary[0], "pairs/s of CPU", cpu_target)
            yield best(walls, summary[1], "pairs/s", wall_target)


# --- one at a time --------------------------------------------------------------------

def latency(context, options):
    aim = "peer / 20" if context else "peer / 10"
    rows = {q: Row(f"{under('latency', context)}.{q}", "us", less=True,
                   target=aim if q == "p50" else "") for q in ("p50", "p99")}
    with Both(context=context) as both:
        both.open("tcp1448", 1)
        both.ask("latency 100")
        for turn in in_turns(options.runs):
            for name in turn:
                took = both.side[name].ask(f"latency {10 * options.ms}")
                for q, row in rows.items():
                    row.add(name, took[q] / 1000)
    yield from rows.values()


# --- scale ------------------------------------------------------------------------------

def scale_resident(options):
    """QEMU forgets all flows at the 16,385th, so it holds none of the many."""
    for flows, word in RESIDENT:
        if not options.wants(f"proxy.scale.resident{word}", f"proxy.scale.active{word}"):
            continue
        few = Row(f"proxy.scale.resident{word}", "pairs/s of CPU",
                  target="resident1k x 0.9" if flows > ACTIVE else "")
        all_of = Row(f"proxy.scale.active{word}", "pairs/s of CPU")
        with Both() as both:
            both.open("tcp64", flows)
            for turn in in_turns(options.runs):
                for name in turn:
                    for row, active in ((few, ACTIVE), (all_of, flows)):
                        took = both.side[name].ask(f"run {active} 64 {options.ms}")
                        # whose part is one of time, not of pairs
                        took["cpu_ns"] -= took["daemon_ns"]
                        row.add(name, rate(took, "cpu_ns"))
                        if name == "ours":
                            row.detail("daemon_share", took["daemon_ns"] / took["wall_ns"])
        yield few
        yield all_of


def scale_held(options):
    with Both() as both:
        both.open("tcp64", 64, HELD[-1])
        for held in HELD:
            if not options.wants(f"proxy.scale.held{held}"):
                continue
            row = Row(f"proxy.scale.held{held}", "pairs/s")
            for turn in in_turns(options.runs):
                for name in turn:
                    took = both.side[name].ask(f"hold 64 {held}")
                    row.add(name, rate(took, "wall_ns"))
            yield row


def scale_cpus(options):
    """QEMU's has one thread; ours is where the frames come."""
    rows = [Row(f"proxy.scale.cpus{cpus}", "pairs/s",
                target="cpus1 x 1.6" if cpus == 2 else "") for cpus in (1, 2)]
    with Both() as both:
        both.open("tcp1448", 128)
        for turn in in_turns(options.runs):
            for name in turn:
                for cpus, row in enumerate(rows, 1):
                    took = both.side[name].ask(f"cpus {cpus} 64 {options.ms}")
                    row.add(name, rate(took, "wall_ns"))
        ours = both.side["ours"]
        ours.ask("stats on")
        for cpus, row in enumerate(rows, 1):
            took = ours.ask(f"cpus {cpus} 64 {options.ms}")
            row.detail("program_ns_per_pair", took["program_ns"] / took["pairs"])
        ours.ask("stats off")
    yield from rows


# --- outside COLO ------------------------------------------------------------------------

def wire_names():
    return [f"wire.{way}.{kind}" for kind in ("tcp64", "tcp1448", "tcp64k")
            for way in ("out", "in")]


def wire(options):
    """A bridge of the kernel on the same devices is the ceiling."""
    sides = ("wire", "bridge")
    for kind in ("tcp64", "tcp1448", "tcp64k"):
        if not options.wants(f"wire.out.{kind}", f"wire.in.{kind}"):
            continue
        with Both(sides) as both:
            both.ask(f"open {kind} 64 0")
            for way, command in (("out", "wire"), ("in", "wire-in")):
                row = Row(f"wire.{way}.{kind}", "frames/s of CPU", ("ours", "ceiling"),
                          target="ceiling x 1")
                both.ask(f"{command} 64 {options.ms // 4}")
                for turn in in_turns(options.runs, sides):
                    for name in turn:
                        took = both.side[name].ask(f"{command} 64 {options.ms}")
                        row.add("ours" if name == "wire" else "ceiling", rate(took, "cpu_ns"))
                yield row


# --- what there is ------------------------------------------------------------------------

def names_of_best(kind, context):
    return [under(kind, context) + what for what in (".cpu", ".wall")]


def names_of_rates(kind, context):
    return [row.name for flows in FLOWS for window in WINDOWS
            for row in rates_of(kind, context, flows, window)] + names_of_best(kind, context)


def names_of_latency(context):
    return [f"{under('latency', context)}.{q}" for q in ("p50", "p99")]


GROUPS = [(names_of_rates(kind, context),
           lambda options, kind=kind, context=context: throughput(kind, context, options))
          for context, kinds in CONTEXTS.items() for kind in kinds]
GROUPS.append((wire_names(), wire))
GROUPS += [(names_of_latency(context), lambda options, context=context: latency(context, options))
           for context in CONTEXTS]
GROUPS.append(([f"proxy.scale.{what}{word}" for _, word in RESIDENT
                for what in ("resident", "active")], scale_resident))
GROUPS.append((["proxy.scale.cpus1", "proxy.scale.cpus2"], scale_cpus))
GROUPS.append(([f"proxy.scale.held{held}" for held in HELD], scale_held))
