"""Clients that scrape as fast as they can read, in a process of their own, so that they do not share a lock with what is measured.

    python -m benchmarks.scraper PORT CLIENTS ROUNDS PATH[ HEADER: VALUE]...

All clients ask for the first path at once, then for the second, and so on, and all over again: what is compared with
one another meets the same noise. Prints the seconds that each answer took, by path, as JSON.
"""

import json
import socket
import sys
import threading
import time

_BUFFER = 1 << 20


def read(connection: socket.socket, request: bytes) -> float:
    """Seconds from the request to the last byte of the answer."""
    buffer = bytearray(_BUFFER)
    epoch_start = time.perf_counter()
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
    return time.perf_counter() - epoch_start


def scrape(port: int, clients: int, rounds: int, requests: list[str]) -> dict[str, list[float]]:
    """What each answer took, by what was asked for."""
    found: dict[str, list[float]] = {request: [] for request in requests}
    together = threading.Barrier(clients)

    def client() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for _ in range(rounds):
                for request in requests:
                    path, *headers = request.split("\n")
                    lines = (f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", "")
                    together.wait()
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
    port, clients, rounds, *asked = sys.argv[1:]
    json.dump(scrape(int(port), int(clients), int(rounds), asked), sys.stdout)
