"""The plain copy, which the crowd's transfers are compared with: one thread that hands a file from memory to each who asks.

Never reads what it is asked for. Invariant: nobody has more than one piece at a time, so that all advance together.

    plain_copy.py FILE
"""

import select
import socket
import sys
from pathlib import Path

PIECE_BYTES = 1 << 20


def main():
    body = Path(sys.argv[1]).read_bytes()
    answer = memoryview(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    print(f"listening on {listener.getsockname()[1]}", flush=True)
    sockets, sent = {}, {}
    while True:
        for descriptor, event in poll.poll():
            if descriptor == listener.fileno():
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                sockets[accepted.fileno()] = accepted
                poll.register(accepted, select.EPOLLIN)
            elif event & select.EPOLLOUT:
                at = sent[descriptor]
                sent[descriptor] += sockets[descriptor].send(answer[at : at + PIECE_BYTES])
                if sent[descriptor] == len(answer):
                    poll.modify(descriptor, select.EPOLLIN)
            elif sockets[descriptor].recv(1 << 16):
                sent[descriptor] = 0
                poll.modify(descriptor, select.EPOLLOUT)
            else:
                sockets.pop(descriptor).close()


main()
