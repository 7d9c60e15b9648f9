# SPDX-License-Identifier: GPL-2.0-only
"""Processes that measure, driven by lines."""

import json
import os
import subprocess

from results import Failed

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, os.environ.get("BUILD", "build"))


def qemu():
    found = os.environ.get("COLO_BPF_QEMU_DIR") or subprocess.run(
        [os.path.join(TOP, "qemu-glue/build"), "--print"],
        check=True, capture_output=True, text=True).stdout.strip()
    return os.path.join(found, "qemu-system-x86_64")


class Worker:
    """A process that is told and answers by lines."""

    def __init__(self, name, argv, **more):
        self.name = name
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1, **more)

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise Failed(f"{self.name} has ended, status {self.process.wait()}")
        return text.rstrip("\n")

    def say(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name} has ended, status {self.process.wait()}") from None

    def end(self):
        if not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        return self.process.wait()


class Proxy(Worker):
    """build/bench-proxy: a line of JSON for each command."""

    def __init__(self, side):
        program = os.path.join(BUILD, "bench-proxy")
        super().__init__(side, [program, side] + ([qemu()] if side == "peer" else []))

    def ask(self, line):
        self.say(line)
        answer = json.loads(self.line())
        if "error" in answer:
            raise Failed(f"{self.name}: {line}: {answer['error']}")
        return answer


class Guests(Worker):
    """tests/bench/pair or replicas: what a command prints, up to its status."""

    def __init__(self, kind, script="pair", *more):
        super().__init__(kind, [os.path.join(TOP, "tests/bench", script), kind, *more])

    def answer(self):
        lines = []
        while True:
            line = self.line()
            if line.startswith("= "):
                return lines, int(line[2:])
            lines.append(line)

    def ready(self):
        self.answer()

    def ask(self, line):
        self.say(line)
        lines, status = self.answer()
        if status:
            raise Failed(f"{self.name}: {line}: status {status}: {' '.join(lines)[-600:]}")
        return lines

    def load(self, line):
        """What each of its clients says; an error of one is an error."""
        return self.clients("load", line)

    def clients(self, command, line):
        answers = [json.loads(text) for text in self.ask(f"{command} {line}")]
        for answer in answers:
            if not answer["ok"]:
                raise Failed(f"{self.name}: {line}: {answer['error']}")
        return answers
