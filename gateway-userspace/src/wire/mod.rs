//! HTTP/1.1 on the wire (RFC 9112), read strictly, and the bodies that travel through the daemon.
//!
//! What two parsers could read in two ways is refused, not repaired: bare LF, folded lines, both
//! lengths, two Hosts, blanks around a field name, odd chunk sizes. Pure code: bytes in, values out.

mod body;
mod chunked;
mod fields;
mod framing;
mod head;

pub use body::{Body, BodyError};
pub use chunked::{
    ChunkError, Chunked, Decoded, MAX_CHUNK_LINE, MAX_TRAILER_BYTES, MAX_TRAILERS, write_chunk,
};
pub use fields::{NominationError, strip_hop_by_hop, write_fields};
pub use framing::{Framing, FramingError};
pub use head::{HeadError, HeadLimits, RequestHead, ResponseHead, Scan, parse_request, parse_response};
