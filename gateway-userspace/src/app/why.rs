//! `gateway why ADDRESS`: what every layer has to say of an address, put together.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Serialize;

use super::parts::Running;
use crate::admin::{Api, ApiError};
use crate::bans::geo::Place;
use crate::bans::{Stopped, Why};
use crate::client::IpNetwork;
use crate::kernel::{Ban, Kernel, Part, SourceCells, Target};
use crate::limits::{Clock, KeyView, Subject};

/// Shortest prefixes that a ban in the kernel can have, in bits.
const SHORTEST: (u8, u8) = (8, 16);

/// What all layers say.
#[derive(Serialize)]
struct Told {
    /// Ledger, lists, buckets, offences.
    #[serde(flatten)]
    why: Why,
    /// The kernel's tables; none without a kernel side.
    kernel: Option<InKernel>,
    /// The limits whose keys an address, its country and its autonomous system are enough for.
    limits: Vec<KeyView>,
    /// Why they can't be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits_error: Option<String>,
    /// Where the address is; none without a database.
    place: Option<Place>,
}

/// What the kernel's tables hold.
#[derive(Serialize)]
struct InKernel {
    /// What is done to packets of banned sources: `enforce`, `observe` or `off`.
    bans_are: &'static str,
    /// The same for lists.
    lists_are: &'static str,
    /// Bans that cover the address, the widest first, with the packets that each dropped.
    bans: Vec<Ban>,
    /// What the limiter's cells hold of it.
    limiter: SourceCells,
    /// Whether packets of the address are dropped now, by a ban or for a list.
    dropped: bool,
}

/// Adds the call.
pub fn call(api: &mut Api, running: &Arc<Running>) {
    let r = Arc::clone(running);
    api.on(Method::GET, "/v1/why/{}", move |request| {
        let r = Arc::clone(&r);
        async move {
            let address: IpAddr = request
                .parameter
                .parse()
                .map_err(|_| ApiError::bad(format!("`{}` is not an IP address", request.parameter)))?;
            let stopped = |e: Stopped| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string());
            let why = r.bans.why(address.to_canonical()).await.map_err(stopped)?;
            Ok(tell(&r, why).await)
        }
    });
}

async fn tell(running: &Running, why: Why) -> Told {
    let address = why.address;
    let place = running.geo.as_ref().map(|geo| geo.place(address));
    let kernel = running.kernel.as_ref().map(|kernel| in_kernel(kernel, &why));
    let limits = match Subject::parse(&subject(address, place.as_ref())) {
        Ok(subject) => running.limiter.show(&subject, None, Clock::start().now()).await,
        Err(error) => Err(error),
    };
    let (limits, limits_error) = match limits {
        Ok(limits) => (limits, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Told { why, kernel, limits, limits_error, place }
}

/// The parts of a limit's key that are known of an address.
fn subject(address: IpAddr, place: Option<&Place>) -> Vec<String> {
    let country = place.and_then(|p| p.country.as_ref()).map(|country| format!("country={country}"));
    let asn = place.and_then(|p| p.asn).map(|asn| format!("asn={asn}"));
    [Some(format!("address={address}")), country, asn].into_iter().flatten().collect()
}

fn in_kernel(kernel: &Kernel, why: &Why) -> InKernel {
    let (shortest, longest) = if why.address.is_ipv4() { (SHORTEST.0, 32) } else { (SHORTEST.1, 128) };
    let bans: Vec<Ban> = (shortest..=longest)
        .filter_map(|prefix| {
            let network = IpNetwork::containing(why.address, prefix);
            kernel.find(Target::prefix(network.addr(), network.prefix()).ok()?)
        })
        .collect();
    let modes = kernel.modes();
    let (of_bans, of_lists) = (modes.get(Part::Bans), modes.get(Part::Feeds));
    let enforced = |mode: crate::kernel::Mode| mode == crate::kernel::Mode::Enforce;
    let is_listed = why.feeds.iter().any(|feed| feed.in_kernel);
    let dropped = why.guarded.is_none()
        && ((!bans.is_empty() && enforced(of_bans)) || (is_listed && enforced(of_lists)));
    let limiter = kernel.source(why.address);
    InKernel { bans_are: of_bans.name(), lists_are: of_lists.name(), bans, limiter, dropped }
}
