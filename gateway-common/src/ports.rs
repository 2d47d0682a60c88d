//! Port policy: bitmaps of what is closed. All zero is "everything open".

/// First word of the TCP ports.
pub const TCP: u32 = 0;
/// First word of the UDP ports.
pub const UDP: u32 = 1024;
/// First word of the ICMP types.
pub const ICMP: u32 = 2048;
/// First word of the ICMPv6 types.
pub const ICMP6: u32 = 2052;
/// First word of the IP protocols other than those above.
pub const PROTOCOLS: u32 = 2056;
/// First word of the TCP ports whose new connections are answered with cookies under pressure.
pub const COOKIES: u32 = 2060;
/// Words in all.
pub const WORDS: u32 = 3084;
