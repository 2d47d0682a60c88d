"""Five GETs and five POSTs of 100,000 bytes over one HTTP/3 connection, at once; prints status and body of each."""

import asyncio
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.waiting = {}

    def quic_event_received(self, event):
        for got in self.http.handle_event(event):
            if isinstance(got, (HeadersReceived, DataReceived)) and got.stream_id in self.waiting:
                state = self.waiting[got.stream_id]
                if isinstance(got, HeadersReceived):
                    state["status"] = dict(got.headers)[b":status"].decode()
                else:
                    state["body"] += got.data
                if got.stream_ended:
                    state["done"].set_result(None)

    async def ask(self, method, body):
        stream = self._quic.get_next_available_stream_id()
        state = {"status": "", "body": b"", "done": asyncio.get_running_loop().create_future()}
        self.waiting[stream] = state
        head = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/x")]
        if body:
            head.append((b"content-length", str(len(body)).encode()))
        self.http.send_headers(stream, head, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        await state["done"]
        return f"{state['status']} {state['body'].decode()}"


async def main(port):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
    async with connect("localhost", port, configuration=configuration, create_protocol=Client, local_port=0) as client:
        work = [client.ask(b"GET", b"") for _ in range(5)]
        work += [client.ask(b"POST", b"a" * 100_000) for _ in range(5)]
        try:
            for answer in await asyncio.wait_for(asyncio.gather(*work), 10):
                print(answer)
        except asyncio.TimeoutError:
            sys.exit(f"not all answered: {client.waiting}")


asyncio.run(main(int(sys.argv[1])))
