"""A server of raw bytes on a thread: what it answers to each request is a test's to say."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import parse_headers
from io import BufferedIOBase

RawReply = Callable[[str, str, bytes], bytes | Iterator[bytes]]
"""The bytes of a whole answer to a method, a path with query and a body."""


def http(body: bytes = b"[]", status: int = 200, **headers: str) -> bytes:
    """An answer with its right length, unless `headers` has another one."""
    named = {"content-type": "application/json", "content-length": str(len(body))}
    named |= {name.replace("_", "-"): text for name, text in headers.items()}
    lines = "".join(f"{name}: {text}\r\n" for name, text in named.items() if text)
    return f"HTTP/1.1 {status} Words\r\n{lines}\r\n".encode() + body


class RawCloud:
    """What the server does; `reply` may be exchanged at any time."""

    def __init__(self, reply: RawReply) -> None:
        self.reply = reply
        self.requests: list[str] = []
        """The method and path of each request that was answered in full."""
        self.connections = 0
        self.url = ""

    def serve(self, reader: BufferedIOBase, writer: BufferedIOBase) -> None:
        """Serve one connection until either side closes it."""
        self.connections += 1
        try:
            while line := reader.readline():
                method, path, _ = line.decode().split(" ", 2)
                length = int(parse_headers(reader).get("content-length", "0"))
                answer = self.reply(method, path, reader.read(length))
                writer.writelines((answer,) if isinstance(answer, bytes) else answer)
                writer.flush()
                self.requests.append(f"{method} {path}")
        except OSError:
            return  # the exporter closed the connection, which is what many tests are about


@contextmanager
def raw_cloud(reply: RawReply) -> Iterator[RawCloud]:
    """A server on a free port, stopped at the end."""
    cloud = RawCloud(reply)

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            cloud.serve(self.rfile, self.wfile)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        cloud.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield cloud
        finally:
            server.shutdown()
            thread.join()
