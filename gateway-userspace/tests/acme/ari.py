"""An authority with ARI (RFC 9773): stands before one without, adds `renewalInfo` to its directory, suggests the window that
a file holds, and keeps what orders say that they replace."""

import base64
import http.client
import http.server
import json
import ssl
import sys

PORT, BEHIND, CERTIFICATE, KEY, WINDOW, REPLACED = sys.argv[1:]


def payload_of(body):
    text = json.loads(body)["payload"] if body else ""
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) or b"{}")


class Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.startswith("/renewal/"):
            with open(WINDOW) as file:
                start, end = file.read().split()
            text = json.dumps({"suggestedWindow": {"start": start, "end": end}}).encode()
            return self.reply(200, [("content-type", "application/json"), ("retry-after", "21600")], text)
        there = http.client.HTTPSConnection("localhost", int(BEHIND), context=ssl._create_unverified_context())
        there.request(self.command, self.path, body, dict(self.headers))
        answer = there.getresponse()
        text = answer.read()
        if self.path == "/dir":
            text = self.with_field(text, "renewalInfo", f"https://{self.headers['host']}/renewal")
        replaces = payload_of(body).get("replaces")
        if replaces and answer.status == 201:
            text = self.with_field(text, "replaces", replaces)
            with open(REPLACED, "a") as file:
                print(replaces, file=file)
        ours = ("content-length", "connection", "transfer-encoding", "date")
        self.reply(answer.status, [f for f in answer.getheaders() if f[0].lower() not in ours], text)

    do_GET = do_POST = do_HEAD = answer

    @staticmethod
    def with_field(text, name, value):
        return json.dumps({**json.loads(text), name: value}).encode()

    def reply(self, status, fields, text):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", int(PORT)), Front)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
