"""Python's websockets through the gateway: text, binary, large, many, ping, close. Arguments: port, tls port, CA."""

import ssl
import sys

from websockets.sync.client import connect

plain, tls, ca = sys.argv[1:4]
context = ssl.create_default_context(cafile=ca)
count = 0
for url, options in [
    (f"ws://localhost:{plain}/ws", {}),
    (f"wss://localhost:{tls}/ws", {"ssl": context}),
]:
    with connect(url, max_size=1 << 24, **options) as socket:
        for message in ["hello", "ä" * 1000, b"\0\1\2", b"x" * 1_000_000, ""]:
            socket.send(message)
            assert socket.recv(timeout=10) == message
            count += 1
        for n in range(500):
            socket.send(str(n))
        for n in range(500):
            assert socket.recv(timeout=10) == str(n)
            count += 1
        assert socket.ping().wait(10), "no pong"
    assert socket.close_code == 1000, socket.close_code
print(f"{count} messages echoed, plain and TLS")
