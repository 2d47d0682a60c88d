//! A database of places in MaxMind's format (its specification 2.0), as small as a test needs it.

use std::net::Ipv4Addr;

/// A value of the format.
#[derive(Debug)]
pub enum Mmdb<'a> {
    /// Text of less than 29 bytes.
    Text(&'a str),
    /// A number of 32 bits.
    Number(u32),
    /// A map.
    Map(Vec<(&'a str, Mmdb<'a>)>),
}

impl Mmdb<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                out.push((2 << 5) + text.len() as u8);
                out.extend(text.bytes());
            }
            Self::Number(number) => {
                out.push((6 << 5) + 4);
                out.extend(number.to_be_bytes());
            }
            Self::Map(pairs) => {
                out.push((7 << 5) + pairs.len() as u8);
                for (key, value) in pairs {
                    Mmdb::Text(key).encode(out);
                    value.encode(out);
                }
            }
        }
    }

    /// An IPv4 database that knows one network, and says this of it.
    pub fn of_network(&self, network: Ipv4Addr, prefix: u32) -> Vec<u8> {
        let mut out = Vec::new();
        for depth in 0..prefix {
            let bit = (network.to_bits() >> (31 - depth)) % 2;
            // The number of nodes means that nothing is there; from 16 beyond it on there is data.
            let onward = if depth + 1 == prefix { prefix + 16 } else { depth + 1 };
            let records = if bit == 0 { [onward, prefix] } else { [prefix, onward] };
            out.extend(records.iter().flat_map(|record| record.to_be_bytes()));
        }
        out.extend([0; 16]);
        self.encode(&mut out);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        // A map of nine: sizes of numbers matter in some, so they are spelled out.
        out.push((7 << 5) + 9);
        let mut entry = |name: &str, value: &[u8]| {
            Mmdb::Text(name).encode(&mut out);
            out.extend(value);
        };
        let short = |number: u16| [&[(5 << 5) + 2][..], &number.to_be_bytes()].concat();
        entry("node_count", &[&[(6 << 5) + 4][..], &prefix.to_be_bytes()].concat());
        entry("record_size", &short(32));
        entry("ip_version", &short(4));
        entry("database_type", &[&[(2 << 5) + 4][..], b"Test"].concat());
        entry("binary_format_major_version", &short(2));
        entry("binary_format_minor_version", &short(0));
        entry("description", &[7 << 5]);
        entry("languages", &[0, 4]);
        entry("build_epoch", &[&[8, 2][..], &1_u64.to_be_bytes()].concat());
        out
    }
}
