//! Databases of places in MaxMind's format, as small as can be.
//!
//! Knows the standard library alone: the daemon's own tests take this file in as well.

/// A value of the MaxMind DB format (its specification 2.0), as far as the tests need.
pub enum Value<'a> {
    /// A text of at most 255 bytes.
    Text(&'a str),
    /// A number of 32 bits.
    Number(u32),
    /// A number of 16 bits.
    Short(u16),
    /// A number of 64 bits.
    Long(u64),
    /// A list of nothing.
    EmptyList,
    /// Names and values; at most 28.
    Map(Vec<(&'a str, Value<'a>)>),
}

fn encode(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            let length = text.len() as u8;
            // Sizes of 29 and more take another byte.
            if length < 29 {
                out.push((2 << 5) + length);
            } else {
                out.extend([(2 << 5) + 29, length - 29]);
            }
            out.extend(text.bytes());
        }
        Value::Number(number) => {
            out.push((6 << 5) + 4);
            out.extend(number.to_be_bytes());
        }
        Value::Short(number) => {
            out.push((5 << 5) + 2);
            out.extend(number.to_be_bytes());
        }
        Value::EmptyList => out.extend([0, 4]),
        Value::Long(number) => {
            // Types past 7 are told in another byte.
            out.extend([8, 2]);
            out.extend(number.to_be_bytes());
        }
        Value::Map(pairs) => {
            out.push((7 << 5) + pairs.len().min(28) as u8);
            for (key, value) in pairs {
                encode(&Value::Text(key), out);
                encode(value, out);
            }
        }
    }
}

/// An IPv4 database with one network and its row.
pub fn database(network: u32, prefix: u32, row: &Value<'_>) -> Vec<u8> {
    let nodes = prefix;
    let mut out = Vec::new();
    for depth in 0..prefix {
        let bit = (network >> (31 - depth)) % 2;
        // The number of nodes means nothing there; 16 beyond it begins the data.
        let onward = if depth + 1 == prefix { nodes + 16 } else { depth + 1 };
        let records = if bit == 0 { [onward, nodes] } else { [nodes, onward] };
        out.extend(records.iter().flat_map(|r| r.to_be_bytes()));
    }
    out.extend([0; 16]);
    encode(row, &mut out);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = Value::Map(vec![
        ("node_count", Value::Number(nodes)),
        ("record_size", Value::Short(32)),
        ("ip_version", Value::Short(4)),
        ("database_type", Value::Text("Test")),
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("description", Value::Map(vec![])),
        ("languages", Value::EmptyList),
        ("build_epoch", Value::Long(1)),
    ]);
    encode(&metadata, &mut out);
    out
}
