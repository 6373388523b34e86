"""Scrape with several clients at once, as fast as they can read.

    python -m benchmarks.scraper PORT CLIENTS ROUNDS PATH[ HEADER: VALUE]...

It is a process of its own, so that it does not share the interpreter lock with the server. In each round all clients request
the first path at the same time, then the second, and so on, so that noise affects all paths alike. Prints the seconds of
each response by path, as JSON.
"""

import json
import socket
import sys
import threading
import time

_BUFFER = 1 << 20


def read(connection: socket.socket, request: bytes) -> float:
    """Return the seconds from the request to the last byte of the response."""
    buffer = bytearray(_BUFFER)
    started = time.perf_counter()
    connection.sendall(request)
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    head, _, start = head.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(head.decode())
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    left = length - len(start)
    while left:
        received = connection.recv_into(buffer, min(_BUFFER, left))
        if not received:
            raise RuntimeError("the connection was closed")
        left -= received
    return time.perf_counter() - started


def scrape(port: int, clients: int, rounds: int, requests: list[str]) -> dict[str, list[float]]:
    """Return the seconds of each response, by request."""
    found: dict[str, list[float]] = {request: [] for request in requests}
    barrier = threading.Barrier(clients)

    def client() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for _ in range(rounds):
                for request in requests:
                    path, *headers = request.split("\n")
                    lines = (f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", "")
                    barrier.wait()
                    found[request].append(read(connection, "\r\n".join(lines).encode()))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if any(len(seconds) != clients * rounds for seconds in found.values()):
        raise RuntimeError("a client has failed")
    return found


if __name__ == "__main__":
    port, clients, rounds, *requests = sys.argv[1:]
    json.dump(scrape(int(port), int(clients), int(rounds), requests), sys.stdout)
