//! From a listening socket to an established connection: sockets, admission, the PROXY header, TLS.

mod accept;
mod admission;
mod certificates;
mod der;
mod expiry;
mod identity;
pub mod ja4;
mod numbers;
mod ocsp;
pub mod pass;
pub mod quic;
mod quic_hello;
mod recorder;
mod socket;
mod tickets;
mod tls;

pub use accept::{AcceptError, Acceptor, Peer, TlsInfo};
pub use admission::{Admission, ConnectionPermit, Refusal};
pub use certificates::{CertificateError, CertificateStatus, Certificates};
pub use expiry::{Expiry, Warning};
pub use identity::{ClientAuthority, ClientCertificate};
pub use numbers::{Failure, TlsNumbers};
pub use recorder::{Recorder, Stream};
pub use socket::{BindError, Bound, adopt, bind};
pub use tickets::{TicketKeys, TicketKeysError};
pub use tls::{TlsError, server_config};
