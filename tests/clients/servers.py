"""The services behind the gateway: a site with a page, a WebSocket echo, a gRPC service. Prints their ports.

Argument: the file for what the page reports."""

import json
import os
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from websockets.sync.server import serve

LARGE = bytes(range(256)) * 4096  # 1 MiB

PAGE = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>page</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/site/style.css"></head>
<body><p>a page</p><script src="/site/app.js"></script></body></html>"""

# Everything a page does: fetch, post, an image's worth of bytes, a WebSocket; then it says how it came.
SCRIPT = b"""
(async () => {
  const out = {};
  out.protocol = performance.getEntriesByType('navigation')[0].nextHopProtocol;
  out.fetched = (await (await fetch('/site/large')).arrayBuffer()).byteLength;
  out.posted = await (await fetch('/site/length', {method: 'POST', body: new Uint8Array(300000)})).text();
  out.many = (await Promise.all([...Array(40).keys()].map(n => fetch('/site/style.css?' + n)))).filter(r => r.ok).length;
  out.socket = await new Promise((resolve, reject) => {
    const socket = new WebSocket('wss://' + location.host + '/ws');
    socket.onopen = () => socket.send('hello');
    socket.onmessage = event => { resolve(event.data); socket.close(); };
    socket.onerror = () => reject('socket');
  });
  await fetch('/site/report', {method: 'POST', body: JSON.stringify(out)});
})().catch(error => fetch('/site/report', {method: 'POST', body: JSON.stringify('failed: ' + error)}));
"""


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="text/plain", **fields):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/site/page":
            self.answer(200, PAGE, "text/html; charset=utf-8")
        elif path == "/site/app.js":
            self.answer(200, SCRIPT, "text/javascript")
        elif path == "/site/style.css":
            self.answer(200, b"body { color: black }", "text/css")
        elif path == "/site/large":
            wanted = self.headers.get("Range")
            if wanted:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                piece = LARGE[int(first) : int(last) + 1]
                span = f"bytes {first}-{last}/{len(LARGE)}"
                self.answer(206, piece, "application/octet-stream", Content_Range=span)
            else:
                self.answer(200, LARGE, "application/octet-stream")
        else:
            self.answer(200, b"hello\n")

    do_HEAD = do_GET

    def do_POST(self):
        length = 0
        if self.path == "/site/report":
            report = self.rfile.read(int(self.headers["Content-Length"]))
            with open(sys.argv[1] + ".new", "wb") as file:
                file.write(report)
            os.rename(sys.argv[1] + ".new", sys.argv[1])
            self.answer(200, b"")
            return
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                length += len(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            length = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.answer(200, str(length).encode())


class Sites(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Clients that go away in the middle are what some tests are about."""


def echo(socket):
    for message in socket:
        socket.send(message)


class Echo(grpc.GenericRpcHandler):
    """Messages are bytes: no generated code is needed."""

    def service(self, details):
        kinds = {
            "/echo.Echo/Unary": grpc.unary_unary_rpc_method_handler(lambda m, c: m),
            "/echo.Echo/Server": grpc.unary_stream_rpc_method_handler(lambda m, c: (m for _ in range(100))),
            "/echo.Echo/Client": grpc.stream_unary_rpc_method_handler(lambda it, c: b"".join(it)),
            "/echo.Echo/Both": grpc.stream_stream_rpc_method_handler(lambda it, c: (m.upper() for m in it)),
            "/echo.Echo/Fails": grpc.unary_unary_rpc_method_handler(
                lambda m, c: c.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
            ),
        }
        return kinds.get(details.method)


def main():
    site = Sites(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    socket = serve(echo, "127.0.0.1", 0)
    threading.Thread(target=socket.serve_forever, daemon=True).start()
    service = grpc.server(futures.ThreadPoolExecutor(max_workers=16), handlers=(Echo(),))
    rpc = service.add_insecure_port("127.0.0.1:0")
    service.start()
    ports = {"site": site.server_address[1], "ws": socket.socket.getsockname()[1], "grpc": rpc}
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


main()
