"""Connections by the thousand, held by this process: those that ask for one file at once, and those that wait.

Never takes a body on trust: each has its length, and each of a sample its hash too.
"""

import hashlib
import os
import re
import select
import socket
import time
from dataclasses import dataclass

from processes import Failed

# One body in so many is hashed; to hash them all would take longer than to fetch them.
SAMPLED = 100
# What is read of a connection before the others have their turn. While some wait for a first byte, turns are short enough to
# see when it comes.
TURN_BYTES, FIRST_TURN_BYTES = 1 << 20, 16 << 10


@dataclass
class Arrived:
    """When each client asked, when its first byte of the body came and when its last, counted from the moment at which the first asked."""

    asked_at: float
    first_secs: list
    last_secs: list
    # Of each client, in the order of the first bytes: one process needs a while to ask for all.
    asked_secs: list
    bytes: int


@dataclass
class Client:
    socket: socket.socket
    left: int
    asked_secs: float = 0
    hash: object = None
    head: bytes = b""


def connect(port, count):
    """Connections to a server of this machine, from several addresses."""
    sockets = []
    for number in range(count):
        opened = socket.socket()
        opened.bind((f"127.0.1.{1 + number % 8}", 0))
        opened.settimeout(60)
        opened.connect(("127.0.0.1", port))
        sockets.append(opened)
    return sockets


def ask_at_once(sockets, path, expected, within_secs):
    """All ask for a file, then all that comes is taken, whoever has something first."""
    size, right = len(expected), hashlib.sha256(expected).digest()
    buffer = memoryview(bytearray(TURN_BYTES))
    clients = {}
    poll = select.epoll()
    for number, opened in enumerate(sockets):
        opened.setblocking(False)
        sampled = hashlib.sha256() if number % SAMPLED == 0 else None
        clients[opened.fileno()] = Client(opened, size, hash=sampled)
        poll.register(opened, select.EPOLLIN)
    arrived = Arrived(time.monotonic(), [], [], [], 0)
    # Whoever has something before the last has asked is seen after that: what is told of them is at most too much.
    for opened in sockets:
        clients[opened.fileno()].asked_secs = time.monotonic() - arrived.asked_at
        opened.send(request(path))
    while clients:
        # While some wait for a first byte, this process does not sleep: on a virtual machine a server that wakes another core for each
        # answer spends as much on that as on the answer. Agents sleep on machines of their own.
        is_first = len(arrived.first_secs) < len(sockets)
        events = poll.poll(0 if is_first else within_secs, len(sockets))
        # What came is stamped before any of it is read: the others do not wait for the first one's bytes.
        now = time.monotonic() - arrived.asked_at
        if now > within_secs or not (events or is_first):
            raise Failed(f"{len(clients)} of {len(sockets)} clients have no whole body after {now:.0f} s")
        if not events:
            # The upstream is on this core too.
            os.sched_yield()
        turn = buffer[:FIRST_TURN_BYTES] if is_first else buffer
        for descriptor, _ in events:
            client = clients[descriptor]
            if take(client, turn, size):
                arrived.first_secs.append(now)
                arrived.asked_secs.append(client.asked_secs)
            if client.left == 0:
                arrived.last_secs.append(time.monotonic() - arrived.asked_at)
                arrived.bytes += size
                if client.hash and client.hash.digest() != right:
                    raise Failed(f"{path}: a body is not the file's")
                poll.unregister(descriptor)
                del clients[descriptor]
    return arrived


def take(client, buffer, size):
    """Reads once; says whether the body's first byte was in it."""
    whole = client.left == size
    count = client.socket.recv_into(buffer)
    if count == 0:
        raise Failed(f"a connection was closed with {client.left} bytes to come")
    start = 0
    if whole and not client.head.endswith(b"\r\n\r\n"):
        start = take_head(client, buffer, count)
    body = count - start
    if body > client.left:
        raise Failed("more came than the body has")
    if client.hash:
        client.hash.update(buffer[start:count])
    client.left -= body
    return whole and body > 0


def take_head(client, buffer, count):
    """Takes the head, or what is there of it; gives where in the buffer the body begins."""
    before = len(client.head)
    head, end, _ = (client.head + bytes(buffer[:count])).partition(b"\r\n\r\n")
    client.head = head + end
    if not end:
        return count
    length = re.search(rb"\r\ncontent-length: *(\d+)", client.head, re.I)
    if not client.head.startswith(b"HTTP/1.1 200") or not length or int(length[1]) != client.left:
        raise Failed(f"an answer begins with {client.head!r}")
    return len(client.head) - before


def ask_each(sockets, path, expected):
    """Each asks once and has its answer, one after the other; they stay open."""
    for opened in sockets:
        opened.sendall(request(path))
        answer = opened.makefile("rb")
        status, length = answer.readline(), 0
        while (line := answer.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if b" 200 " not in status or answer.read(length) != expected:
            raise Failed(f"{path}: a connection's answer is not the file")


def closed(sockets):
    """How many of the connections the server has closed meanwhile."""
    poll = select.poll()
    for opened in sockets:
        poll.register(opened, select.POLLIN)
    return len(poll.poll(0))


def request(path):
    return f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
