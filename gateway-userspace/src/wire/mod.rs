//! HTTP/1.1 on the wire (RFC 9112), read strictly, and the bodies that travel through the daemon.
//!
//! What two parsers could read in two ways is refused, not repaired: bare LF, folded lines, both
//! lengths, blanks around a field name, odd chunk sizes. Bytes in, values out; no sockets.

mod body;
mod capped;
mod chunked;
mod fields;
mod framing;
mod head;
mod maybe_tls;
mod pace;
mod paced;
mod trailers;

pub use body::{Body, BodyError, TURN};
pub use capped::{Capped, Deadline};
pub use chunked::{
    ChunkError, Chunked, Decoded, MAX_CHUNK_LINE, MAX_TRAILER_BYTES, MAX_TRAILERS, write_chunk, write_end,
};
pub use fields::{NominationError, is_hop_by_hop, keeps_alive, remove_where, strip_hop_by_hop, write_fields};
pub use framing::{Framing, FramingError};
pub use head::{HeadError, HeadLimits, RequestHead, ResponseHead, Scan, parse_request, parse_response};
pub use maybe_tls::MaybeTls;
pub use pace::Pace;
pub use paced::Paced;
pub use trailers::keep_trailers;
