//! The whole request path over loopback: a raw client, the server, a raw origin.

mod bodies;
mod bounds;
mod gates;
mod h2;
mod harness;
mod life;
mod mtls;
mod rules;
mod servers;
mod smuggling;
mod upgrade;

use harness::{Gateway, Origin};
