"""aioquic through the gateway: requests over one HTTP/3 connection, at once and in turn. Arguments: tls port, CA."""

import asyncio
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamReset

PORT, CA = int(sys.argv[1]), sys.argv[2]
UPLOAD = b"u" * 1_000_000


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamReset):
            self.answers[event.stream_id][2].set_exception(RuntimeError(f"reset {event.error_code:#x}"))
        for got in self.http.handle_event(event):
            answer = self.answers[got.stream_id]
            if isinstance(got, HeadersReceived):
                answer[0].update(got.headers)
            if isinstance(got, DataReceived):
                answer[1].extend(got.data)
            if got.stream_ended and not answer[2].done():
                answer[2].set_result(None)

    async def ask(self, method, path, body=b""):
        stream = self._quic.get_next_available_stream_id()
        answer = self.answers[stream] = ({}, bytearray(), asyncio.get_running_loop().create_future())
        fields = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
        if body:
            fields.append((b"content-length", str(len(body)).encode()))
        self.http.send_headers(stream, fields, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        await asyncio.wait_for(answer[2], 20)
        return answer[0].get(b":status"), bytes(answer[1])


async def main():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(CA)
    async with connect("127.0.0.1", PORT, configuration=configuration, create_protocol=Client) as client:
        status, text = await client.ask(b"GET", b"/")
        assert (status, text) == (b"200", b"GET / HTTP/1.1"), (status, text)
        gets = await asyncio.gather(*(client.ask(b"GET", b"/") for _ in range(50)))
        assert all(answer == (b"200", b"GET / HTTP/1.1") for answer in gets), gets
        status, text = await client.ask(b"GET", b"/site/large")
        assert (status, len(text)) == (b"200", 1 << 20), (status, len(text))
        status, text = await client.ask(b"POST", b"/site/length", UPLOAD)
        assert (status, text) == (b"200", str(len(UPLOAD)).encode()), (status, text)
        # No HEAD: aioquic takes its content-length for that of a body.
    print("53 requests on one connection, 50 at once; 1 MiB down, 1 MB up")


asyncio.run(main())
