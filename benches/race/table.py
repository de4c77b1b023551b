"""One table of what was measured: medians, and what stands between each server and nginx, round by round."""

from dataclasses import asdict, dataclass
from statistics import median


@dataclass
class Measured:
    """One server in one row of one round; `None` is what the row does not have."""

    requests: int | None = None
    bytes: int | None = None
    secs: float | None = None
    p50_secs: float | None = None
    p99_secs: float | None = None
    cpu_secs: float | None = None
    memory_bytes: int | None = None
    connections: int | None = None
    remarks: dict | None = None

    def figures(self):
        """What the table shows; absent figures stay away."""
        over = lambda value, by: value / by if value is not None and by else None
        return {
            "requests_per_sec": over(self.requests, self.secs),
            "bytes_per_sec": over(self.bytes, self.secs),
            "p50_secs": self.p50_secs,
            "p99_secs": self.p99_secs,
            "cpu_secs_per_request": over(self.cpu_secs, self.requests),
            "cpu_secs_per_gb": over(self.cpu_secs, over(self.bytes, 1e9)),
            "core_share": over(self.cpu_secs, self.secs),
            "memory_bytes": over(self.memory_bytes, self.connections or 1),
        }


COLUMNS = [
    ("requests/s", "requests_per_sec", lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}"),
    ("MB/s", "bytes_per_sec", lambda value: f"{value / 1e6:,.0f}"),
    ("p50 ms", "p50_secs", lambda value: f"{value * 1e3:.2f}"),
    ("p99 ms", "p99_secs", lambda value: f"{value * 1e3:.2f}"),
    ("CPU us/request", "cpu_secs_per_request", lambda value: f"{value * 1e6:,.1f}"),
    ("CPU s/GB", "cpu_secs_per_gb", lambda value: f"{value:.2f}"),
    ("of a core", "core_share", lambda value: f"{value:.0%}"),
    ("memory", "memory_bytes", lambda value: f"{value / 2**20:.0f} MiB" if value >= 2**20 else f"{value / 2**10:.1f} KiB"),
]
# What makes an answer a long one.
BULK_BYTES = 1 << 20
HEAD = ["row", "server", *(column[0] for column in COLUMNS), "of nginx's"]


def summarise(rounds):
    """What all rounds say of each row and server: a list of dictionaries, in the order in which they ran.

    `rounds` holds for each round a dictionary from (row, server) to `Measured`.
    """
    lines = []
    keys = list(dict.fromkeys(key for by_server in rounds for key in by_server))
    names = [row for row, _ in keys]
    # A server that had no figure in the first round still stands with its row.
    for row, server in sorted(keys, key=lambda key: names.index(key[0])):
        samples = [by_server[row, server] for by_server in rounds if (row, server) in by_server]
        figures = [sample.figures() for sample in samples]
        line = {"row": row, "server": server, "rounds": len(samples)}
        line |= {name: middle(figure[name] for figure in figures) for _, name, _ in COLUMNS}
        line["of_nginx"] = {
            name: middle(
                ratio(by_server[row, server].figures()[name], by_server[row, "nginx"].figures()[name])
                for by_server in rounds
                if (row, server) in by_server and (row, "nginx") in by_server
            )
            for name in ("cpu_secs_per_request", "cpu_secs_per_gb", "requests_per_sec", "bytes_per_sec", "memory_bytes")
        }
        line["samples"] = [{name: value for name, value in asdict(sample).items() if value is not None} for sample in samples]
        lines.append(line)
    return lines


def markdown(lines):
    """The table; a row's name stands at its first server alone."""
    cells = [HEAD]
    for before, line in zip([None, *lines], lines):
        shown = [show(line[name]) if line[name] is not None else "" for _, name, show in COLUMNS]
        row = "" if before and before["row"] == line["row"] else line["row"]
        cells.append([row, line["server"], *shown, compared(line)])
    widths = [max(len(row[at]) for row in cells) for at in range(len(HEAD))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells)


def compared(line):
    """The last column: what the row is about, as a share of nginx's."""
    if line["server"] == "nginx":
        return ""
    of_nginx = line["of_nginx"]
    if line["requests_per_sec"] is None:
        shown = {"memory": of_nginx["memory_bytes"]}
    # Of long transfers those count too that the end of a measurement cut off.
    elif line["bytes_per_sec"] > line["requests_per_sec"] * BULK_BYTES:
        shown = {"CPU": of_nginx["cpu_secs_per_gb"], "rate": of_nginx["bytes_per_sec"]}
    else:
        shown = {"CPU": of_nginx["cpu_secs_per_request"], "rate": of_nginx["requests_per_sec"]}
    return ", ".join(f"{name} {value:.2f}" for name, value in shown.items() if value)


def ratio(ours, theirs):
    return ours / theirs if ours is not None and theirs else None


def middle(values):
    known = [value for value in values if value is not None]
    return median(known) if known else None
