//! Names for what happens to a packet, as the codes stored in counters, events and ban entries.

/// Defines a closed enum with a `u8` code, its count, the way back from a code, and a stable name.
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident, $count:ident = $n:literal { $($(#[$doc:meta])* $variant:ident = $code:literal $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant = $code,)+ }

        #[doc = concat!("Room kept for codes of [`", stringify!($name), "`]: codes are below this.")]
        pub const $count: usize = $n;

        impl $name {
            /// Every value, in order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value behind a code read from a map.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// The code stored in maps.
            #[inline(always)]
            pub const fn code(self) -> u8 { self as u8 }

            /// Stable lower-case name for logs, metrics and the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
        $(const _: () = assert!($code < $n);)+
    };
}

codes! {
    /// Why a packet got its verdict.
    Reason, REASONS = 32 {
        /// Passed every check.
        Clean = 0 "clean",
        /// The program is switched off.
        Off = 1 "off",
        /// Not an IP packet (ARP, LLDP): passed.
        NotIp = 2 "not_ip",
        /// Neighbour or router discovery from the link: passed after the source checks.
        Discovery = 3 "discovery",
        /// A check would have dropped it, the allowlist kept it.
        Allowed = 4 "allowed",
        /// The source address is banned.
        BanHost = 8 "ban_host",
        /// The source lies in a banned prefix.
        BanPrefix = 9 "ban_prefix",
        /// The source is in a feed set.
        Feed = 10 "feed",
        /// The destination port is closed by policy.
        Port = 11 "port",
        /// The ICMP type is refused by policy.
        IcmpType = 12 "icmp_type",
        /// The IP protocol is refused by policy.
        Protocol = 13 "protocol",
        /// Over the limit of packets a second.
        RatePackets = 14 "rate_packets",
        /// Over the limit of bytes a second.
        RateBytes = 15 "rate_bytes",
        /// Over the limit of new connections a second.
        RateSyn = 16 "rate_syn",
        /// The sketch found the source heavy during a flood.
        Flood = 17 "flood",
        /// New connections beyond what the whole host takes.
        SynGate = 18 "syn_gate",
        /// A SYN answered with a cookie instead of being passed on.
        SynCookie = 19 "syn_cookie",
        /// Barred for a while after violating its limits again and again.
        Penalty = 20 "penalty",
        /// Shorter than its own headers say.
        Truncated = 22 "truncated",
        /// More VLAN tags than are followed.
        VlanDepth = 23 "vlan_depth",
        /// Not a valid IPv4 header.
        Ipv4Header = 24 "ipv4_header",
        /// Not a valid IPv6 header.
        Ipv6Header = 25 "ipv6_header",
        /// More IPv6 extension headers than are followed.
        ExtensionDepth = 26 "extension_depth",
        /// Not a valid TCP, UDP or ICMP header.
        Transport = 27 "transport",
        /// A fragment that cuts or would overwrite the transport header.
        TinyFragment = 28 "tiny_fragment",
        /// A source that no packet from the wire can have.
        BogusSource = 29 "bogus_source",
    }
}

impl Reason {
    /// True for reasons that take the packet out of the normal path (dropped, or answered by the program itself).
    pub const fn is_drop(self) -> bool {
        self as u8 >= Self::BanHost as u8
    }

    /// The part of the program whose mode governs this reason.
    #[inline(always)]
    pub const fn part(self) -> Part {
        match self {
            Self::Feed => Part::Feeds,
            Self::Port | Self::IcmpType | Self::Protocol => Part::Ports,
            Self::RatePackets | Self::RateBytes | Self::RateSyn | Self::Penalty => Part::Limits,
            Self::Flood | Self::SynGate | Self::SynCookie => Part::Flood,
            Self::Truncated
            | Self::VlanDepth
            | Self::Ipv4Header
            | Self::Ipv6Header
            | Self::ExtensionDepth
            | Self::Transport
            | Self::TinyFragment
            | Self::BogusSource => Part::Malformed,
            _ => Part::Bans,
        }
    }
}

codes! {
    /// Why an address was banned. Four bits in a ban entry.
    BanReason, BAN_REASONS = 16 {
        /// No reason given.
        Unspecified = 0 "unspecified",
        /// By the operator.
        Manual = 1 "manual",
        /// Web application firewall rules.
        Waf = 2 "waf",
        /// Request rate limits.
        RateLimit = 3 "rate_limit",
        /// Vulnerability scanning.
        Scanner = 4 "scanner",
        /// Password guessing.
        BruteForce = 5 "brute_force",
        /// Protocol abuse (smuggling, slow requests, resets).
        Protocol = 6 "protocol",
        /// A crawler that breaks the rules.
        Bot = 7 "bot",
        /// Learnt from another node.
        Cluster = 8 "cluster",
        /// From a threat feed, as single bans.
        Feed = 9 "feed",
        /// Packet limits in the kernel, violated again and again.
        PacketLimit = 10 "packet_limit",
    }
}

codes! {
    /// Protocol classes that counters are split by.
    Proto, PROTOS = 8 {
        /// TCP.
        Tcp = 0 "tcp",
        /// UDP.
        Udp = 1 "udp",
        /// ICMP for IPv4.
        Icmp = 2 "icmp",
        /// ICMP for IPv6.
        Icmp6 = 3 "icmp6",
        /// Another protocol over IP.
        Other = 4 "other",
        /// A fragment after the first, which carries no transport header.
        Fragment = 5 "fragment",
        /// Not IP.
        NotIp = 6 "not_ip",
        /// Could not be parsed so far as to know.
        Unparsed = 7 "unparsed",
    }
}

impl Proto {
    /// The class of an IP protocol number (for IPv6: of the header that the parser stopped at).
    #[inline(always)]
    pub const fn of(protocol: u8) -> Self {
        match protocol {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 => Self::Icmp,
            58 => Self::Icmp6,
            _ => Self::Other,
        }
    }
}

codes! {
    /// Parts of the program that have a mode of their own.
    Part, PARTS = 16 {
        /// Bans of hosts and prefixes.
        Bans = 0 "bans",
        /// Feed sets.
        Feeds = 1 "feeds",
        /// Port, ICMP type and protocol policy.
        Ports = 2 "ports",
        /// Limits for each source.
        Limits = 3 "limits",
        /// Defences against floods of many sources: sketch, SYN gate, SYN cookies.
        Flood = 4 "flood",
        /// Packets that break their own format.
        Malformed = 5 "malformed",
    }
}

codes! {
    /// What a part may do. Two bits.
    Mode, MODES = 4 {
        /// Not looked at.
        Off = 0 "off",
        /// Counted and sampled as what would happen, but passed.
        Observe = 1 "observe",
        /// Done.
        Enforce = 2 "enforce",
    }
}

/// The modes of all parts in one word, two bits each, so that the kernel reads them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes(pub u32);

impl Modes {
    /// Every part off.
    pub const OFF: Self = Self(0);

    /// Every part in one mode.
    pub const fn all(mode: Mode) -> Self {
        let mut word = 0;
        let mut i = 0;
        while i < Part::ALL.len() {
            word |= (mode as u32) << (Part::ALL[i] as u32 * 2);
            i += 1;
        }
        Self(word)
    }

    /// The mode of one part. A code that no build writes reads as off.
    #[inline(always)]
    pub const fn get(self, part: Part) -> Mode {
        match (self.0 >> (part as u32 * 2)) & 3 {
            1 => Mode::Observe,
            2 => Mode::Enforce,
            _ => Mode::Off,
        }
    }

    /// True when one of these parts does anything at all: one test of the word's bits.
    #[inline(always)]
    pub const fn any(self, parts: &[Part]) -> bool {
        let (mut mask, mut i) = (0, 0);
        while i < parts.len() {
            mask |= 3 << (parts[i] as u32 * 2);
            i += 1;
        }
        self.0 & mask != 0
    }

    /// The same modes with one part changed.
    #[must_use]
    pub const fn with(self, part: Part, mode: Mode) -> Self {
        let shift = part as u32 * 2;
        Self((self.0 & !(3 << shift)) | ((mode as u32) << shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_round() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(Reason::from_code(31), None);
        assert_eq!(Mode::from_code(3), None);
        assert!(BanReason::ALL.len() <= BAN_REASONS);
    }

    #[test]
    fn modes_are_independent() {
        let modes = Modes::all(Mode::Enforce).with(Part::Limits, Mode::Observe).with(Part::Feeds, Mode::Off);
        assert_eq!(modes.get(Part::Bans), Mode::Enforce);
        assert_eq!(modes.get(Part::Limits), Mode::Observe);
        assert_eq!(modes.get(Part::Feeds), Mode::Off);
        assert_eq!(Modes(u32::MAX).get(Part::Bans), Mode::Off);
        assert!(modes.any(&[Part::Limits]) && modes.any(&[Part::Feeds, Part::Bans]));
        assert!(!modes.any(&[Part::Feeds]) && !Modes::OFF.any(Part::ALL));
    }

    #[test]
    fn drops_are_told_from_passes() {
        for reason in Reason::ALL {
            let passes = matches!(
                reason,
                Reason::Clean | Reason::Off | Reason::NotIp | Reason::Discovery | Reason::Allowed
            );
            assert_eq!(reason.is_drop(), !passes, "{}", reason.name());
        }
    }
}
