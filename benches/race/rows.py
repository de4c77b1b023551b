"""The rows of the table: what is asked of a server, and what is measured meanwhile.

The load is on this process's core, the server on its own. Its processor time is counted over the whole of a measurement, its memory
after it. Invariant: a measurement with an error in it is none.
"""

import http.client
import json
import os
import subprocess
import urllib.request
from dataclasses import dataclass, replace

import crowd
import tree
from processes import Failed, Process
from servers import BARE, KINDS
from table import Measured

# Where the fleet comes from, and what the configurations show there.
NETWORKS = {"patterns": "127.64.0.0/12", "patterns-engines-drivers": "127.80.0.0/12", "all": "127.96.0.0/12"}
# What the line to the upstream carries while everybody waits for one file.
UPSTREAM_BYTES_PER_SEC = 100_000_000
# How long an upstream that is far away takes to answer: by then everybody has asked.
FAR_SECS = 0.1
ORIGIN, COPY, ASKED = (os.path.join(os.path.dirname(__file__), name) for name in ("origin.py", "plain_copy.py", "asked.lua"))


@dataclass
class Sizes:
    """How much of everything: a full run, a quick one, a smoke test."""

    rounds: int
    secs: int
    many: int
    large_bytes: int
    agents: int
    idle: int
    crowd: int
    crowd_rounds: int


FULL = Sizes(rounds=3, secs=3, many=2000, large_bytes=64 << 20, agents=10_000, idle=10_000, crowd=2000, crowd_rounds=1)
QUICK = replace(FULL, secs=1, crowd=200, idle=2000)
SMOKE = replace(QUICK, rounds=1, many=20, large_bytes=8 << 20, agents=50, idle=50, crowd=20)


@dataclass
class Row:
    """A row: who takes part by name of kind, whether Forebay does once for each mode of sendfile, and how one is measured."""

    name: str
    kinds: tuple
    has_modes: bool
    measure: callable
    rounds: int


@dataclass
class Race:
    """What a measurement may need."""

    sizes: Sizes
    ground: object
    files: tree.Tree
    running: dict

    def rows(self):
        sizes = self.sizes
        large, everybody, two = f"{sizes.large_bytes >> 20} MiB", tuple(KINDS), ("forebay", "nginx")
        not_stored = f"{sizes.crowd:,} at once for {large} not stored"
        plain = [
            ("2 KiB, 64 connections", self.plain(tree.SMALL, 64), False),
            (f"{sizes.many:,} objects of 8 KiB", self.plain(tree.SMALL, 64, "many", sizes.many), False),
            ("64 KiB", self.plain(tree.MEDIUM, 64), True),
            (f"{large} whole", self.plain(tree.LARGE, 4), True),
            (f"1 MiB ranges of {large}", self.plain(tree.LARGE, 16, "ranges", sizes.large_bytes >> 20), True),
        ]
        rows = [Row(name, everybody, modes, measure, sizes.rounds) for name, measure, modes in plain]
        return rows + [
            Row(f"{sizes.agents:,} agents, manifest of their scope", (*two, BARE), False, self.agents, sizes.rounds),
            Row("TLS 1.3: full handshake, 2 KiB", two, False, self.plain(tree.SMALL, 64, tls="new"), sizes.rounds),
            Row(f"TLS 1.3: {large} whole", two, False, self.plain(tree.LARGE, 4, tls="kept"), sizes.rounds),
            Row(f"{sizes.idle:,} idle connections, each", two, False, self.idle, sizes.rounds),
            Row(f"{sizes.crowd:,} at once for 8 KiB", everybody, False, self.crowd, sizes.rounds),
            Row(not_stored, (*two, "plain copy"), False, self.stampede(), sizes.crowd_rounds),
            Row(f"{not_stored}, {FAR_SECS * 1e3:.0f} ms away", two, False, self.stampede(FAR_SECS), sizes.crowd_rounds),
        ]

    def plain(self, path, connections, asked="one", count=1, tls=None):
        """Requests as fast as answers come, by wrk: of one file, of many, or of its ranges."""

        def measure(name):
            server = self.running[name]
            base = f"https://127.0.0.1:{server.tls_port}" if tls else f"http://127.0.0.1:{server.port}"
            argv = ["wrk", "-t1", f"-c{connections}", f"-d{self.sizes.secs}", "--timeout", "30", "-s", ASKED, f"{base}/{path}"]
            argv += ["-H", "Connection: close"] if tls == "new" else []
            told = {"RACE_ASKED": asked, "RACE_COUNT": str(count), "RACE_BYTES": str(tree.RANGE_BYTES)}
            before = server.process.cpu_secs()
            said = run(argv, env=os.environ | told)
            cpu_secs = server.process.cpu_secs() - before
            figures = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
            if figures["errors"]:
                raise Failed(f"{name}, {path}: {said}")
            return Measured(
                figures["requests"],
                figures["bytes"],
                figures["secs"],
                figures["p50"] if tls != "new" else None,
                figures["p99"] if tls != "new" else None,
                cpu_secs,
                server.process.memory_bytes(),
            )

        return measure

    def agents(self, name):
        """A fleet that takes the manifest and nothing else, each agent by a connection and an address of its own."""
        server, sizes = self.running[name], self.sizes
        argv = [self.ground.binary, "load", f"http://127.0.0.1:{server.port}/activeupdate/", "--json", "-"]
        argv += ["--agents", str(sizes.agents), "--connections", "1000", "--mix", "current=1,full=0,increment=0"]
        argv += ["--no-signatures", "--time-max", "1m"]
        for network in NETWORKS.values():
            argv += ["--source", network]
        before = server.process.cpu_secs()
        said = json.loads(run(argv))
        cpu_secs = server.process.cpu_secs() - before
        times = said["latency_secs"]["last_byte_from_send"]
        return Measured(
            said["requests"]["whole"],
            said["bytes"]["total"],
            said["took_secs"],
            times["p50"],
            times["p99"],
            cpu_secs,
            server.process.memory_bytes(),
        )

    def idle(self, name):
        """A new server's memory before and after so many connections, each of which asked once."""
        server = KINDS[name].start(replace(self.ground, prefetch="none"), f"{name}-idle")
        sockets = []
        try:
            expected = self.files.bytes_of(tree.SMALL)
            crowd.ask_each(crowd.connect(server.port, 8), tree.SMALL, expected)
            before = server.process.memory_bytes()
            sockets = crowd.connect(server.port, self.sizes.idle)
            crowd.ask_each(sockets, tree.SMALL, expected)
            memory_bytes = server.process.memory_bytes() - before
            if closed := crowd.closed(sockets):
                raise Failed(f"{name}: {closed} idle connections were closed")
            return Measured(memory_bytes=memory_bytes, connections=len(sockets))
        finally:
            for opened in sockets:
                opened.close()
            server.process.stop()

    def crowd(self, name):
        """Connections that are open already ask at once for a file that the server has: what a stampede's first bytes are held against."""
        server = self.running[name]
        return self.rush(server.process, server.port, tree.EIGHT)

    def stampede(self, away_secs=0.0):
        """Connections that are open already ask at once for a file that the server does not have, over a thin line."""

        def measure(name):
            if name == "plain copy":
                copy = Process(["python3", COPY, str(self.files.folder / tree.LARGE)], self.ground.core)
                try:
                    return self.rush(copy, int(copy.wait_line(r"listening on (\d+)")[1]), tree.LARGE)
                finally:
                    copy.stop()
            origin, port = start_origin(self.files.folder, UPSTREAM_BYTES_PER_SEC, away_secs)
            server = None
            try:
                ground = replace(self.ground, upstream=f"http://127.0.0.1:{port}", prefetch="none")
                server = KINDS[name].start(ground, f"{name}-cold")
                return self.rush(server.process, server.port, tree.LARGE, port)
            finally:
                if server:
                    server.process.stop()
                origin.stop()

        return measure

    def rush(self, process, port, path, origin_port=None):
        expected = self.files.bytes_of(path)
        sockets = crowd.connect(port, self.sizes.crowd)
        try:
            before = process.cpu_secs()
            arrived = crowd.ask_at_once(sockets, path, expected, 240)
            cpu_secs = process.cpu_secs() - before
            memory_bytes = process.memory_bytes()
        finally:
            for opened in sockets:
                opened.close()
        first, last = sorted(arrived.first_secs), max(arrived.last_secs)
        p50, p99 = first[len(first) // 2], first[len(first) * 99 // 100]
        remarks = {"last_end_secs": last, "upstream_secs": len(expected) / UPSTREAM_BYTES_PER_SEC}
        if origin_port:
            with urllib.request.urlopen(f"http://127.0.0.1:{origin_port}/sent") as answer:
                sent = json.load(answer)[f"/{path}"]
            remarks["origin_bytes_per_unique"] = sent["bytes"] / len(expected)
            # Both clocks are the machine's.
            there = sent["first_at"] - arrived.asked_at
            remarks["p99_first_after_origin_secs"] = p99 - there
            # Who asked later could not have it sooner.
            waited = sorted(
                first - max(there, asked)
                for first, asked in zip(arrived.first_secs, arrived.asked_secs, strict=True)
            )
            remarks["p99_first_after_both_secs"] = waited[len(waited) * 99 // 100]
        return Measured(len(sockets), arrived.bytes, last, p50, p99, cpu_secs, memory_bytes, remarks=remarks)


def start_origin(folder, bytes_per_sec=None, away_secs=0.0):
    """The upstream, on the load's core."""
    argv = ["python3", ORIGIN, str(folder), *([str(bytes_per_sec), str(away_secs)] if bytes_per_sec else [])]
    origin = Process(argv, min(os.sched_getaffinity(0)))
    return origin, int(origin.wait_line(r"listening on (\d+)")[1])


def check(server, files):
    """Fetches every file, which fills the caches, and compares each with the one that the upstream has."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for path in files.files():
        if get(connection, path) != files.bytes_of(path):
            raise Failed(f"{server.name}: {path} is not the upstream's")
    large = files.bytes_of(tree.LARGE)[tree.RANGE_BYTES : 2 * tree.RANGE_BYTES]
    asked = {"Range": f"bytes={tree.RANGE_BYTES}-{2 * tree.RANGE_BYTES - 1}"}
    if get(connection, tree.LARGE, asked, 206) != large:
        raise Failed(f"{server.name}: a range is not the file's")


def check_views(server, views):
    """Compares the manifest that each network sees with what the relay showed there."""
    for scope, network in NETWORKS.items():
        if view(server, network) != views[scope]:
            raise Failed(f"{server.name}: the manifest for {scope} is not the relay's")


def view(server, network):
    """The manifest as an address of the network sees it."""
    source = network.split("/")[0].removesuffix("0") + "1"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60, source_address=(source, 0))
    return get(connection, tree.MANIFEST)


def get(connection, path, headers={}, status=200):
    connection.request("GET", f"/{path}", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != status:
        raise Failed(f"{path}: {answer.status} from port {connection.port}: {body[:200]!r}")
    return body


def run(argv, env=None):
    """Runs a load to its end; gives what it printed."""
    ended = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=300)
    if ended.returncode != 0:
        raise Failed(f"{argv[0]} ended with {ended.returncode}: {ended.stderr}{ended.stdout}")
    return ended.stdout
