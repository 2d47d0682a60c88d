use super::*;

/// What `text` is refused with, a line a problem; empty when it is taken.
fn refusal(text: &str) -> String {
    Config::parse(Path::new("g.toml"), text).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn says_where_and_what_to_do() {
    for (text, expected) in [
        (
            "[server]\nworkers = 0\n",
            "g.toml:2:11: `workers` must be from 1 to 256; leave it out for one a core.",
        ),
        ("[server]\nwrokers = 1\n", "g.toml:2:1: unknown field `wrokers`"),
        ("[server]\ndrain = \"9x\"\n", "g.toml:2:9: `9x` is not a duration"),
        ("[control]\nsocket = \"x.sock\"\n", "g.toml:2:10: `socket` must be an absolute path"),
        ("[control]\nlisten = \"9180\"\n", "g.toml:2:10: `listen` must be an address and port"),
        ("[log]\nlevel = \"loud\"\n", "g.toml:2:9: `level` must be one of error, warn, info, debug, trace."),
        ("[kernel]\ninterfaces = [\"eth0\", \"eth0\"]\n", "g.toml:2:23: interface `eth0` is named twice."),
        (
            "[kernel]\nmode = \"on\"\n",
            "g.toml:2:8: unknown variant `on`, expected one of `off`, `observe`, `enforce`",
        ),
        ("[waf]\nrules = []\n", "g.toml:2:9: `rules` is empty"),
        (
            "[kernel.limits]\npackets_burst = 5\n",
            "g.toml:2:17: `packets_burst` has no effect without `packets`.",
        ),
        ("[kernel.modes]\nflood = \"off\"\n", "g.toml:2:1: unknown field `flood`"),
        ("[kernel.flood]\ncookies = [443]\n", "g.toml:2:12: `cookies` has no effect without `connections`"),
        ("[kernel.flood]\nconnections_burst = 5\n", "g.toml:2:21: `connections_burst` has no effect"),
        ("[kernel.flood]\nheavy = 0\n", "g.toml:2:9: `heavy` must be from 1 to 400000"),
        ("[kernel.flood]\nconnections = 0\n", "g.toml:2:15: `connections` must be from 1 to 1000000000"),
        ("[kernel.flood]\nnew_sources = 1000000001\n", "g.toml:2:15: `new_sources` must be from 0"),
        ("[kernel.limits]\npackets = 0\n", "g.toml:2:11: `packets` must be from 1 to 100000000000 a second."),
        ("[[kernel.limits.overrides]]\npackets = 5\n", "g.toml:1:1: an override needs `networks`"),
        (
            "[kernel.capacity]\nhosts = 999\n",
            "g.toml:2:9: `hosts` is from 1000 to 16000000 entries; default 1000000.",
        ),
        (
            "[kernel]\ninterfaces = [\"eth0\"]\n[bans]\nmax_decisions = 1500000\n",
            "g.toml:4:17: [bans] `max_decisions` is 1500000, but the kernel's tables hold 1000000 IPv4 hosts and 1000000",
        ),
        (
            "[kernel]\ninterfaces = [\"eth0\"]\ncapacity.wide = 5000\n",
            "g.toml: [bans] `max_decisions` is 200000, but the kernel's tables hold 1000000 IPv4 hosts and 5000 IPv6",
        ),
        (
            "[kernel]\ninterfaces = [\"eth0\"]\ncapacity.feed_hosts = 5000\n[[bans.feeds]]\nname = \"f\"\nfile = \"f\"\n",
            "g.toml: feed `f` may have 1000000 entries, but the kernel's feed table holds 5000: raise `feed_hosts`",
        ),
        ("[kernel.ports.open]\ntcp = [\"80-x\"]\n", "g.toml:2:8: write a port such as 443"),
        ("[server\n", "g.toml:1:8: "),
    ] {
        let got = refusal(text);
        assert!(got.starts_with(expected), "{text}\n got: {got}\nwant: {expected}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let got = refusal("[server]\nworkers = 0\ndrain = \"2h\"\n[log]\nlevel = \"x\"\n");
    assert_eq!(got.lines().count(), 3, "{got}");
}

#[test]
fn capacities_do_not_matter_without_the_kernel_side() {
    assert_eq!(refusal("[bans]\nmax_decisions = 2000000\n[kernel.capacity]\nhosts = 1000\n"), "");
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(refusal(""), "");
}

#[test]
fn the_example_is_good() {
    assert_eq!(refusal(include_str!("../../../config/example.toml")), "");
}

#[test]
fn the_embedded_defaults_are_good() {
    assert_eq!(refusal(include_str!("../../../config/default.toml")), "");
}

#[test]
fn parts_of_the_kernel_side_do_no_more_than_the_whole() {
    use super::kernel::Mode::{Enforce, Observe, Off};
    for (text, mode, bans, ports, flood) in [
        ("", Enforce, Enforce, Enforce, Enforce),
        ("mode = \"observe\"", Observe, Observe, Observe, Observe),
        ("mode = \"off\"\nmodes.bans = \"enforce\"", Off, Off, Off, Off),
        ("modes = { ports = \"observe\" }\nflood.mode = \"off\"", Enforce, Enforce, Observe, Off),
        (
            "mode = \"observe\"\nmodes = { bans = \"off\", ports = \"enforce\" }",
            Observe,
            Off,
            Observe,
            Observe,
        ),
    ] {
        let text = format!("[kernel]\n{text}\n");
        let kernel = Config::parse(Path::new("g.toml"), &text).expect(&text).kernel;
        let modes = kernel.modes;
        assert_eq!((kernel.mode, modes.bans, modes.ports, modes.flood), (mode, bans, ports, flood), "{text}");
        assert_eq!((modes.limits, modes.malformed, modes.feeds), (mode, mode, mode), "{text}");
    }
}
