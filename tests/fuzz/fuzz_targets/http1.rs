//! HTTP/1.1 on the wire: what our reader accepts, another reader (httparse) reads as the same request, and neither the cuts in
//! which bytes arrive nor a second pass through the writer changes what was read.
#![no_main]

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Version};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unused_imports, reason = "the whole room is taken in for its readers")]
#[path = "../../../gateway-userspace/src/wire/mod.rs"]
mod wire;
use wire::{ChunkError, Chunked, Decoded, Framing, HeadLimits, Scan};

const LIMITS: HeadLimits = HeadLimits { bytes: 16 << 10, fields: 64, target: 4 << 10 };

/// The first byte says in pieces of which length the rest arrives.
fuzz_target!(|data: &[u8]| {
    let Some((&step, data)) = data.split_first() else { return };
    let step = usize::from(step).max(1);
    let mut whole = Scan::default();
    let end = whole.advance(data, &LIMITS);
    assert_eq!(end, in_pieces(data, step), "cuts change where the head ends");
    chunked(data, step);
    let Ok(Some(end)) = end else { return };
    let head = Bytes::copy_from_slice(&data[..end]);
    if let Ok(request) = wire::parse_request(&head, &whole, &LIMITS) {
        let mut fields = [httparse::EMPTY_HEADER; 65];
        let mut theirs = httparse::Request::new(&mut fields);
        assert_eq!(theirs.parse(&head), Ok(httparse::Status::Complete(end)), "another reader refuses it");
        assert_eq!(theirs.method, Some(request.method.as_str()));
        assert_eq!(theirs.path.map(str::as_bytes), Some(request.target.as_ref()));
        assert_eq!(theirs.version, Some(u8::from(request.version == Version::HTTP_11)));
        same_fields(&request.headers, theirs.headers);
        framing(request.version, &request.headers);
    }
    if let Ok(response) = wire::parse_response(&head, &whole) {
        let mut fields = [httparse::EMPTY_HEADER; 65];
        let mut theirs = httparse::Response::new(&mut fields);
        // It wants the reason phrase in ASCII or beyond it, and no controls; nobody reads that but people.
        if theirs.parse(&head) == Ok(httparse::Status::Complete(end)) {
            assert_eq!(theirs.code, Some(response.status.as_u16()));
            same_fields(&response.headers, theirs.headers);
        }
    }
});

fn in_pieces(data: &[u8], step: usize) -> Result<Option<usize>, wire::HeadError> {
    let mut scan = Scan::default();
    let mut seen = 0;
    while seen < data.len() {
        seen = (seen + step).min(data.len());
        match scan.advance(&data[..seen], &LIMITS) {
            Ok(None) => {}
            settled => return settled,
        }
    }
    scan.advance(data, &LIMITS)
}

fn same_fields(ours: &HeaderMap, theirs: &[httparse::Header<'_>]) {
    assert_eq!(ours.len(), theirs.len());
    for name in ours.keys() {
        let ours = ours.get_all(name).iter().map(http::HeaderValue::as_bytes);
        let theirs = theirs.iter().filter(|h| h.name.eq_ignore_ascii_case(name.as_str())).map(|h| h.value);
        assert!(ours.eq(theirs), "{name}");
    }
}

/// A length is told in one way or not at all, and what is written reads as what was read.
fn framing(version: Version, headers: &HeaderMap) {
    let framing = Framing::of_request(version, headers);
    if let Ok(Framing::Length(_) | Framing::Chunked) = framing {
        let told = headers.get_all("content-length").iter().count()
            + headers.get_all("transfer-encoding").iter().count();
        assert_eq!(told, 1);
    }
    let mut out = b"GET / HTTP/1.1\r\n".to_vec();
    wire::write_fields(&mut out, headers);
    out.extend_from_slice(b"\r\n");
    let mut scan = Scan::default();
    let limits = HeadLimits { bytes: 2 * LIMITS.bytes, ..LIMITS };
    assert_eq!(scan.advance(&out, &limits), Ok(Some(out.len())), "a written head ends elsewhere");
    let again = wire::parse_request(&out.into(), &scan, &limits).expect("what we write, we read");
    assert_eq!(&again.headers, headers);
    if version == Version::HTTP_11 {
        assert_eq!(Framing::of_request(version, &again.headers), framing);
    }
}

/// What a chunked body comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    error: Option<ChunkError>,
    left: usize,
}

fn decode(data: &[u8], step: usize) -> Read {
    let (mut decoder, mut buffer, mut read) = (Chunked::default(), BytesMut::new(), Read::default());
    let mut pieces = data.chunks(step);
    loop {
        match decoder.decode(&mut buffer) {
            Ok(Decoded::Data(data)) => read.data.extend_from_slice(&data),
            Ok(Decoded::End(trailers)) => {
                assert!(decoder.is_done());
                read.trailers = Some(trailers);
                read.left = buffer.len() + pieces.map(<[u8]>::len).sum::<usize>();
                return read;
            }
            Ok(Decoded::Need) => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => return read,
            },
            Err(error) => {
                read.error = Some(error);
                return read;
            }
        }
    }
}

fn chunked(data: &[u8], step: usize) {
    let whole = decode(data, data.len().max(1));
    let pieces = decode(data, step);
    assert_eq!((&whole.data, &whole.trailers, whole.left), (&pieces.data, &pieces.trailers, pieces.left));
    assert_eq!(whole.error.is_some(), pieces.error.is_some());
    if let Some(trailers) = &whole.trailers {
        let mut out = Vec::new();
        wire::write_chunk(&mut out, &whole.data);
        wire::write_end(&mut out, Some(trailers));
        let again = decode(&out, step);
        assert_eq!(again, Read { data: whole.data, trailers: whole.trailers, error: None, left: 0 });
    }
}
