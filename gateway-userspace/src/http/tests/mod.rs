//! The whole request path over loopback: a raw client, the server, a raw origin.

mod bounds;
mod gates;
mod harness;
mod life;
mod smuggling;

use harness::{Gateway, Origin};
