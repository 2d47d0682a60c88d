//! Floods of HTTP/2, frame by frame: each ends in GOAWAY or a closed connection, and a clean client beside it is served.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::harness::PATIENCE;
use super::{Gateway, Origin};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// GET http://a/ in HPACK: indexed method, scheme and path, a literal authority.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 0x01, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("small").to_be_bytes();
    let mut out = vec![len[1], len[2], len[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A client that speaks frames.
struct Raw {
    stream: TcpStream,
    buf: Vec<u8>,
}

impl Raw {
    fn connect(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(gateway.addresses[0]).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
        let mut raw = Self { stream, buf: Vec::new() };
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        raw
    }

    /// Whether the bytes were taken.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame: kind, flags, stream, payload. `None`: closed.
    fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some((head, _)) = self.buf.split_first_chunk::<9>() {
                let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                if self.buf.len() >= 9 + len {
                    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    let (kind, flags) = (head[3], head[4]);
                    let payload = self.buf.drain(..9 + len).skip(9).collect();
                    return Some((kind, flags, stream, payload));
                }
            }
            let mut piece = vec![0; 1 << 14];
            match self.stream.read(&mut piece) {
                Ok(n) if n > 0 => self.buf.extend_from_slice(&piece[..n]),
                _ => return None,
            }
        }
    }

    /// The code of GOAWAY, or that the connection just ended.
    fn goodbye(&mut self) -> Option<u32> {
        while let Some((kind, _, _, payload)) = self.next() {
            if kind == GOAWAY {
                return payload.get(4..8).map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]));
            }
        }
        None
    }
}

/// Sends units until the gateway has enough; how many it took, and how it said goodbye.
fn flood(gateway: &Gateway, open: &[u8], unit: impl Fn(u32) -> Vec<u8>, most: u32) -> (u32, Option<u32>) {
    let mut raw = Raw::connect(gateway);
    raw.send(open);
    // Answers are read aside, or a full pipe would be what stops the flood.
    let mut reader = Raw { stream: raw.stream.try_clone().expect("cloned"), buf: Vec::new() };
    let goodbye = std::thread::spawn(move || reader.goodbye());
    let mut sent = 0;
    while sent < most && !goodbye.is_finished() && raw.send(&unit(sent)) {
        sent += 1;
    }
    (sent, goodbye.join().expect("joined"))
}

fn is_served(gateway: &Gateway) -> bool {
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response().is_some_and(|r| r.status() == 200)
}

#[test]
fn floods_end_in_goodbye() {
    let origin = Origin::hello();
    let gateway = Gateway::before(&origin, "");
    let id = |n: u32| 2 * n + 1;
    let open_post = frame(HEADERS, END_HEADERS, 1, POST);
    let endless_block = frame(HEADERS, END_STREAM, 1, GET);
    // A field that HPACK's table never keeps: literal, 100 bytes.
    let field = [&[0x00, 0x01, b'x', 0x64][..], &[b'y'; 100]].concat();
    // One field in the table, then a block of indexes to it: bytes on the wire stand for a hundred times as many.
    let bomb_entry = [GET, &[0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
    let bomb = [GET, &[0xbe; 16000][..]].concat();
    type Unit = Box<dyn Fn(u32) -> Vec<u8>>;
    let cases: Vec<(&str, Vec<u8>, Unit, u32)> = vec![
        (
            "rapid reset",
            Vec::new(),
            Box::new(move |n| {
                [
                    frame(HEADERS, END_STREAM | END_HEADERS, id(n), GET),
                    frame(RST_STREAM, 0, id(n), &[0, 0, 0, 8]),
                ]
                .concat()
            }),
            100_000,
        ),
        ("settings", Vec::new(), Box::new(|_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])), 100_000),
        ("pings", Vec::new(), Box::new(|_| frame(PING, 0, 0, b"12345678")), 100_000),
        ("window updates", Vec::new(), Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])), 100_000),
        ("empty pieces", open_post, Box::new(|_| frame(DATA, 0, 1, b"")), 100_000),
        ("priorities", Vec::new(), Box::new(|_| frame(2, 0, 3, &[0, 0, 0, 0, 1])), 100_000),
        (
            "continuations",
            endless_block.clone(),
            Box::new(move |_| frame(CONTINUATION, 0, 1, &field)),
            100_000,
        ),
        ("empty continuations", endless_block, Box::new(|_| frame(CONTINUATION, 0, 1, b"")), 100_000),
        (
            "window past its bound",
            Vec::new(),
            Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
            10,
        ),
        (
            "resets of streams never opened",
            Vec::new(),
            Box::new(move |n| frame(RST_STREAM, 0, id(n), &[0; 4])),
            10,
        ),
    ];
    for (name, open, unit, most) in cases {
        let (sent, goodbye) = flood(&gateway, &open, unit, most);
        assert!(sent < most || most == 10, "{name}: {sent} were taken");
        assert!(goodbye.is_some_and(|code| code != 0), "{name}: {sent}, {goodbye:?}");
        assert!(is_served(&gateway), "{name}");
    }
    // The bomb is refused stream by stream (431), or with the connection.
    let mut raw = Raw::connect(&gateway);
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb_entry));
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &bomb));
    let mut passed = 0;
    while let Some((kind, _, stream, payload)) = raw.next() {
        if kind == GOAWAY || kind == RST_STREAM {
            break;
        }
        if kind == HEADERS && stream == 3 {
            // 431 is not in the static table: a literal status, never the index of 200.
            assert_ne!(payload.first(), Some(&0x88), "the bomb was served");
            break;
        }
        passed += 1;
        assert!(passed < 100, "no answer to the bomb");
    }
    assert!(origin.requests().iter().all(|r| r.head.len() < 70_000));
    let broken = gateway.metrics();
    let line = broken.lines().find(|l| l.starts_with("gateway_http_h2_broken_total ")).expect("a number");
    assert!(line.rsplit(' ').next().is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n >= 9)), "{line}");
}

#[test]
fn streams_are_bounded() {
    let origin = Origin::start(|stream, _| {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let gateway = Gateway::before(&origin, "[http]\nh2_streams = 5\n");
    let mut raw = Raw::connect(&gateway);
    let requests: Vec<u8> =
        (0..8).flat_map(|n| frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, GET)).collect();
    raw.send(&requests);
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < 8 {
        match raw.next().expect("an answer") {
            (HEADERS, ..) => answered += 1,
            // REFUSED_STREAM
            (RST_STREAM, _, _, payload) if payload == [0, 0, 0, 7] => refused += 1,
            (kind, ..) => assert_ne!(kind, GOAWAY),
        }
    }
    assert_eq!((answered, refused), (5, 3));
    assert!(is_served(&gateway));
}

#[test]
fn windows_that_stay_shut_end_the_connection() {
    let origin = Origin::start(|stream, _| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&vec![b'x'; 1_000_000]).is_ok()
    });
    let gateway = Gateway::before(&origin, "[http]\nsend_timeout = \"500ms\"\n");
    let mut raw = Raw::connect(&gateway);
    // The windows of the protocol's start: 65,535 bytes, never enlarged.
    for n in 0..20 {
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, GET));
    }
    let started = Instant::now();
    let mut data = 0;
    while let Some((kind, _, _, payload)) = raw.next() {
        data += if kind == DATA { payload.len() } else { 0 };
        // Answering pings doesn't help.
        if kind == PING {
            raw.send(&frame(PING, 1, 0, &payload));
        }
    }
    assert_eq!(data, 65_535);
    assert!(started.elapsed() >= Duration::from_millis(450));
    let until = Instant::now() + PATIENCE;
    while gateway.server().connections() > 0 {
        assert!(Instant::now() < until, "the connection is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(gateway.metrics().contains("gateway_http_h2_stalled_total 1"), "{}", gateway.metrics());
    assert!(is_served(&gateway));
}

#[test]
fn silent_clients_are_sent_away() {
    let origin = Origin::hello();
    let http = "[http]\nheader_timeout = \"400ms\"\nidle_timeout = \"400ms\"\n";
    let gateway = Gateway::before(&origin, http);
    for (name, bytes) in [
        ("nothing asked", Vec::new()),
        ("one request, then nothing", frame(HEADERS, END_STREAM | END_HEADERS, 1, GET)),
        ("half a head", frame(HEADERS, END_STREAM, 1, GET)),
    ] {
        let mut raw = Raw::connect(&gateway);
        raw.send(&bytes);
        while let Some((kind, _, _, payload)) = raw.next() {
            if kind == PING {
                raw.send(&frame(PING, 1, 0, &payload));
            }
        }
        // `None` is the end, or patience over: then it would still be open.
        let mut byte = [0; 1];
        raw.stream.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        let over = raw
            .stream
            .read(&mut byte)
            .map_or_else(|e| e.kind() == std::io::ErrorKind::ConnectionReset, |n| n == 0);
        assert!(over, "{name}");
    }
    assert!(is_served(&gateway));
}
