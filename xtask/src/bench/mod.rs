//! `cargo xtask bench NAME`: figures beside a peer's or a baseline's, in the same run, alternating.

pub mod decisions;
pub mod limits;
pub mod proxy;
#[allow(dead_code, reason = "each bench takes what it needs of the table")]
pub mod report;
pub mod waf;
pub mod xdp;

use std::process::ExitCode;

use anyhow::Result;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The gateway as a plain proxy beside nginx and HAProxy
    Proxy(proxy::Args),
    /// The WAF engine against libmodsecurity on the same rules
    Waf(waf::Args),
    /// From a decision to its effect: on a node, in a cluster, in bulk, over kills and outages (as root)
    Decisions(decisions::Args),
    /// Rate limits against governor, INCR and EXPIRE, and an exact log
    Limits(limits::Args),
    /// The XDP program against an empty one, a bare drop and xdp-filter (as root)
    Xdp(xdp::Args),
}

/// Measures; the exit code says whether the goals were met.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Proxy(args) => proxy::run(args),
        What::Waf(args) => waf::run(args),
        What::Decisions(args) => decisions::run(args),
        What::Limits(args) => limits::run(args),
        What::Xdp(args) => xdp::run(args),
    }
}
