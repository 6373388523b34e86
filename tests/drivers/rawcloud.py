"""A server in a thread that responds with raw bytes, which the test chooses for each request."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import parse_headers
from io import BufferedIOBase

RawReply = Callable[[str, str, bytes], bytes | Iterator[bytes]]
"""Returns the bytes of the whole response to a request, from its method, its path with query, and its body."""


def http(body: bytes = b"[]", status: int = 200, **headers: str) -> bytes:
    """Return the bytes of an HTTP response; `headers` may replace its content type and its correct content length."""
    named = {"content-type": "application/json", "content-length": str(len(body))}
    named |= {name.replace("_", "-"): text for name, text in headers.items()}
    lines = "".join(f"{name}: {text}\r\n" for name, text in named.items() if text)
    return f"HTTP/1.1 {status} Words\r\n{lines}\r\n".encode() + body


class RawCloud:
    """The state of the server; a test may replace `reply` at any time."""

    def __init__(self, reply: RawReply) -> None:
        self.reply = reply
        self.requests: list[str] = []
        """Method and path of each request that got a complete response."""
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
            return  # the exporter closed the connection, as many tests expect


@contextmanager
def raw_cloud(reply: RawReply) -> Iterator[RawCloud]:
    """Run a server on a free port while the context lasts."""
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
