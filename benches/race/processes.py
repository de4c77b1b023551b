"""The processes of the race: started on a core of their own, read line by line, ended by their own ids.

Invariant: a process and those below it end with `Process.stop`, or with the race itself, since it asks the kernel to tell them.
"""

import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path

WITHIN_SECS = 60
TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """The race cannot go on; its text is for whoever started it."""


def find(program):
    """Where a program is; servers are in a folder that only root's PATH names."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")


class Process:
    """A running command whose output, both streams, is kept; `log` takes standard error instead."""

    def __init__(self, argv, core, log=None):
        self.name = Path(argv[0]).name
        self.said = []
        self.changed = threading.Condition()
        self.over = False
        argv = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core), *argv]
        stderr = open(log, "wb") if log else subprocess.STDOUT
        self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            with self.changed:
                self.said.append(line.decode(errors="replace").rstrip())
                self.changed.notify_all()
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def wait_line(self, pattern):
        """The match in the first line that has one, also one that came before."""
        match = lambda: next((found for line in self.said if (found := re.search(pattern, line))), None)
        with self.changed:
            self.changed.wait_for(lambda: match() or self.over, WITHIN_SECS)
            if found := match():
                return found
            why = "ended" if self.over else f"said nothing like it for {WITHIN_SECS} s"
            raise Failed(f"{self.name}: waited for '{pattern}', but it {why}:\n" + "\n".join(self.said[-20:]))

    def family(self):
        """The ids of this process and of all below it."""
        ids = [self.child.pid]
        for pid in ids:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    ids += map(int, children.read_text().split())
                except OSError:
                    pass  # A thread that ended while it was looked at has none.
        return ids

    def cpu_secs(self):
        """What all of them spent so far, in the kernel and outside."""
        return sum(map(cpu_secs, self.family()))

    def memory_bytes(self):
        """Their proportional share of what is mapped: nothing is counted twice."""
        return sum(map(memory_bytes, self.family()))

    def stop(self):
        """Ends it and waits for that; what does not end in time is killed."""
        family = self.family()
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            # The children of a child that is not collected yet still have their own ids.
            for pid in family:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.child.wait()


def cpu_secs(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # utime and stime are fields 14 and 15; the name and what is before it were cut off.
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SEC


def memory_bytes(pid):
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M)[1]) << 10
