"""HTTP/3 by aioquic, which sends what other clients refuse to: `h3_client.py PORT together|odd|slow|retry|full`.

`together`: five GETs and five POSTs of 100,000 bytes over one connection, at once; prints status and body of each.
`odd`: requests of a wrong form over one connection, an honest one after each; prints name, what came, what came then.
`slow`: streams whose head never comes whole, an honest request after each; prints as `odd`.
`retry`: a request while 64 handshakes that never end are under way; prints whether the server asked to retry, and the
answer.
`full`: handshakes that never end, of clients that showed their address, until one is refused; prints the number of those
before it and the code, and what a client gets once the others have left.
"""

import asyncio
import socket
import ssl
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StreamReset

HALF_OPEN = 64
MOST = 600
METHOD, SCHEME, AUTHORITY, PATH = (
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"localhost"),
    (b":path", b"/x"),
)
HONEST = [METHOD, SCHEME, AUTHORITY, PATH]
# Requests that RFC 9114, section 4 calls malformed.
ODD = [
    ("another host", [*HONEST, (b"host", b"other.test")]),
    ("two paths", [*HONEST, (b":path", b"/second")]),
    ("no method", [SCHEME, AUTHORITY, PATH]),
    ("no path", [METHOD, SCHEME, AUTHORITY]),
    ("no authority", [METHOD, SCHEME, PATH]),
    ("a path that is none", [METHOD, SCHEME, AUTHORITY, (b":path", b"/a b")]),
    ("a status", [*HONEST, (b":status", b"200")]),
    ("an unknown pseudo-field", [*HONEST, (b":odd", b"1")]),
    ("a pseudo-field after others", [METHOD, SCHEME, AUTHORITY, (b"x-a", b"1"), PATH]),
    ("upper case", [*HONEST, (b"X-Upper", b"1")]),
    ("a line break", [*HONEST, (b"x-a", b"1\r\nx-b: 2")]),
    ("the same host", [*HONEST, (b"host", b"localhost")]),
]


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.waiting = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.waiting:
            self.ended(self.waiting[event.stream_id], f"reset {event.error_code:#x}")
        if isinstance(event, ConnectionTerminated):
            for state in self.waiting.values():
                self.ended(state, f"closed {event.error_code:#x}")
        for got in self.http.handle_event(event):
            if isinstance(got, (HeadersReceived, DataReceived)) and got.stream_id in self.waiting:
                state = self.waiting[got.stream_id]
                if isinstance(got, HeadersReceived):
                    state["status"] = dict(got.headers)[b":status"].decode()
                else:
                    state["body"] += got.data
                if got.stream_ended:
                    self.ended(state, f"{state['status']} {state['body'].decode()}")

    def ended(self, state, how):
        if not state["done"].done():
            state["done"].set_result(how)

    async def ask(self, head, body=b""):
        stream = self._quic.get_next_available_stream_id()
        state = {"status": "", "body": b"", "done": asyncio.get_running_loop().create_future()}
        self.waiting[stream] = state
        if body:
            head = [*head, (b"content-length", str(len(body)).encode())]
        self.http.send_headers(stream, head, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        return await asyncio.wait_for(state["done"], 10)


def settings():
    return QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)


def connection(port):
    return connect("localhost", port, configuration=settings(), create_protocol=Client, local_port=0)


async def together(port):
    async with connection(port) as client:
        post = [(b":method", b"POST"), *HONEST[1:]]
        work = [client.ask(HONEST) for _ in range(5)] + [client.ask(post, b"a" * 100_000) for _ in range(5)]
        for answer in await asyncio.gather(*work):
            print(answer)


async def odd(port):
    async with connection(port) as client:
        for name, head in ODD:
            got = await client.ask(head)
            print(f"{name}: {got.splitlines()[0][:11]}, then {await client.ask(HONEST)}")


async def slow(port):
    async with connection(port) as client:
        # A frame of the head (type 1) that promises 20 bytes; and a stream that ends at once.
        for name, data, ends in [("half a head", b"\x01\x14half", False), ("no head", b"", True)]:
            stream = client._quic.get_next_available_stream_id()
            state = {"status": "", "body": b"", "done": asyncio.get_running_loop().create_future()}
            client.waiting[stream] = state
            client._quic.send_stream_data(stream, data, end_stream=ends)
            client.transmit()
            print(f"{name}: {await asyncio.wait_for(state['done'], 10)}, then {await client.ask(HONEST)}")


def transmit(half, sender, port):
    for datagram, _ in half.datagrams_to_send(now=time.time()):
        sender.sendto(datagram, ("127.0.0.1", port))


def receive(half, sender, port):
    """Takes a datagram of the server's in. Where none comes, what was sent is sent again, as any client does (RFC 9002, section 6.2)."""
    for _ in range(20):
        try:
            datagram = sender.recv(4096)
        except TimeoutError:
            half.handle_timer(now=time.time())
            transmit(half, sender, port)
        else:
            half.receive_datagram(datagram, ("127.0.0.1", port), now=time.time())
            return
    raise TimeoutError("the server does not answer")


async def full(port):
    begun = []
    for n in range(MOST):
        half = QuicConnection(configuration=settings())
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.settimeout(1)
        half.connect(("127.0.0.1", port), now=time.time())
        transmit(half, sender, port)
        # First a retry, where one is asked for; then the server's part of the handshake, which is never answered.
        receive(half, sender, port)
        if half._retry_source_connection_id is not None:
            transmit(half, sender, port)
            receive(half, sender, port)
        # The event comes once draining is over, which nobody waits for here.
        if half._close_event is not None:
            print(f"{n} refused {half._close_event.error_code}")
            break
        begun.append((half, sender))
    for half, sender in begun:
        half.close()
        transmit(half, sender, port)
    for _ in range(100):
        try:
            async with connection(port) as client:
                print(await client.ask(HONEST))
                return
        except ConnectionError:
            await asyncio.sleep(0.1)
    print("refused still")


async def retry(port):
    sockets = []
    for _ in range(HALF_OPEN):
        # Its hello is sent, and nothing is ever read.
        half = QuicConnection(configuration=settings())
        half.connect(("127.0.0.1", port), now=time.time())
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockets.append(sender)
        for datagram, to in half.datagrams_to_send(now=time.time()):
            sender.sendto(datagram, to)
    # The server may not have come to all of them yet.
    for _ in range(50):
        async with connection(port) as client:
            if client._quic._retry_source_connection_id is not None:
                print(f"retry {await client.ask(HONEST)}")
                return
        await asyncio.sleep(0.05)
    print("no retry")


WORK = {"together": together, "odd": odd, "slow": slow, "retry": retry, "full": full}
asyncio.run(WORK[sys.argv[2]](int(sys.argv[1])))
