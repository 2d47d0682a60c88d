"""grpcio through the gateway over TLS: unary and all kinds of streams, status and trailers. Arguments: tls port, CA."""

import sys
import threading

import grpc

port, ca = sys.argv[1:3]
credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
    for n in range(100):
        message = str(n).encode() * (n + 1)
        assert channel.unary_unary("/echo.Echo/Unary")(message, timeout=10) == message
    large = b"x" * 3_000_000
    assert channel.unary_unary("/echo.Echo/Unary")(large, timeout=20) == large
    got = list(channel.unary_stream("/echo.Echo/Server")(b"y" * 1000, timeout=10))
    assert got == [b"y" * 1000] * 100
    pieces = [bytes([n]) * 1000 for n in range(200)]
    assert channel.stream_unary("/echo.Echo/Client")(iter(pieces), timeout=10) == b"".join(pieces)
    # Both ways at once: each message waits for the answer to the one before.
    answers = []
    arrived = threading.Semaphore(1)

    def questions():
        for n in range(100):
            assert arrived.acquire(timeout=10), "an answer was held back"
            yield f"q{n}".encode()

    for answer in channel.stream_stream("/echo.Echo/Both")(questions(), timeout=20):
        answers.append(answer)
        assert answer == f"Q{len(answers) - 1}".encode()
        arrived.release()
    assert len(answers) == 100
    try:
        channel.unary_unary("/echo.Echo/Fails")(b"", timeout=10)
        raise SystemExit("no error came")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "as asked", error
print("unary, server, client and both ways; status in trailers")
