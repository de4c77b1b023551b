"""The upstream of the race: a folder over HTTP/1.1, at no more than so many bytes a second over all connections, each answer so many
seconds after it was asked for.

Counts what it hands to its sockets, file by file: `GET /sent`. Never writes a file.

    origin.py FOLDER [BYTES_PER_SEC [AWAY_SECS]]
"""

import json
import mmap
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Small beside what a client's socket holds, so that a transfer that is broken off counts little that nobody had.
PIECE_BYTES = 64 << 10


class Pace:
    """Gives each piece its moment; all connections share one line."""

    def __init__(self, bytes_per_sec):
        self.bytes_per_sec = bytes_per_sec
        self.lock = threading.Lock()
        self.free_at = 0.0

    def wait(self, count):
        with self.lock:
            at = max(time.monotonic(), self.free_at)
            self.free_at = at + count / self.bytes_per_sec
        time.sleep(max(0.0, at - time.monotonic()))


class Sent:
    """What went out of each file, and when its first byte did."""

    def __init__(self):
        self.lock = threading.Lock()
        self.files = {}

    def add(self, path, count):
        with self.lock:
            file = self.files.setdefault(path, {"bytes": 0, "first_at": time.monotonic()})
            file["bytes"] += count


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/sent":
            return self.answer_sent()
        time.sleep(self.server.away_secs)
        file = (self.server.folder / self.path.split("?")[0].lstrip("/")).resolve()
        if not file.is_relative_to(self.server.folder) or not file.is_file():
            return self.send_head(404, {"Content-Length": "0"})
        state = file.stat()
        tag = f'"{state.st_size:x}-{state.st_mtime_ns:x}"'
        validators = {
            "ETag": tag,
            "Last-Modified": self.date_time_string(state.st_mtime),
            "Cache-Control": "max-age=86400",
        }
        if self.headers.get("If-None-Match") == tag:
            return self.send_head(304, validators)
        start, end = self.range(state.st_size)
        headers = {"Content-Length": str(end - start), "Accept-Ranges": "bytes", **validators}
        if (start, end) != (0, state.st_size):
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{state.st_size}"
        self.send_head(206 if "Content-Range" in headers else 200, headers)
        if self.command == "GET" and end > start:
            self.send_body(file, start, end)

    do_HEAD = do_GET

    def range(self, size):
        """The one range that is asked for; anything else is answered whole, as RFC 9110 allows."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or int(asked[1]) >= size or "If-Range" in self.headers:
            return 0, size
        return int(asked[1]), min(size, int(asked[2] or size - 1) + 1)

    def send_head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_body(self, file, start, end):
        pace, sent = self.server.pace, self.server.sent
        step = PIECE_BYTES if pace else end - start
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            with memoryview(mapped) as view:
                for at in range(start, end, step):
                    with view[at : min(at + step, end)] as piece:
                        if pace:
                            pace.wait(len(piece))
                        sent.add(self.path, 0)
                        self.connection.sendall(piece)
                        sent.add(self.path, len(piece))

    def answer_sent(self):
        body = json.dumps(self.server.sent.files).encode()
        self.send_head(200, {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # Whoever asked has left; what was sent until then is counted.

    def log_message(self, *_):
        pass


class Origin(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 4096


def main():
    origin = Origin(("127.0.0.1", 0), Handler)
    origin.folder = Path(sys.argv[1]).resolve()
    origin.pace = Pace(int(sys.argv[2])) if len(sys.argv) > 2 else None
    origin.away_secs = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    origin.sent = Sent()
    print(f"listening on {origin.server_address[1]}", flush=True)
    origin.serve_forever()


main()
