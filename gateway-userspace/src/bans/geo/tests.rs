use super::*;

/// A value of the MaxMind DB format (its specification 2.0), as far as the tests need.
enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Short(u16),
    Long(u64),
    EmptyList,
    Map(Vec<(&'a str, Value<'a>)>),
}

fn encode(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            let length = u8::try_from(text.len()).expect("short");
            // Sizes of 29 and more take another byte.
            if length < 29 {
                out.push((2 << 5) + length);
            } else {
                out.extend([(2 << 5) + 29, length - 29]);
            }
            out.extend(text.bytes());
        }
        Value::Number(number) => {
            let bytes = u32::try_from(*number).expect("a u32").to_be_bytes();
            out.push((6 << 5) + 4);
            out.extend(bytes);
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
            out.push((7 << 5) + u8::try_from(pairs.len()).expect("few"));
            for (key, value) in pairs {
                encode(&Value::Text(key), out);
                encode(value, out);
            }
        }
    }
}

/// An IPv4 database with one network and its row.
fn database(network: u32, prefix: u32, row: &Value<'_>) -> Vec<u8> {
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
        ("node_count", Value::Number(u64::from(nodes))),
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

fn asn_row(number: u64) -> Vec<u8> {
    let row = Value::Map(vec![
        ("autonomous_system_number", Value::Number(number)),
        ("autonomous_system_organization", Value::Text("Example Networks of some length")),
    ]);
    database(0xC000_0200, 24, &row)
}

#[test]
fn places_are_found_and_read_anew() {
    let folder = std::env::temp_dir().join(format!("gateway-geo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let config = Config { country: Some(folder.join("country.mmdb")), asn: Some(folder.join("asn.mmdb")) };
    let country = Value::Map(vec![("country", Value::Map(vec![("iso_code", Value::Text("CH"))]))]);
    std::fs::write(folder.join("country.mmdb"), database(0xC000_0200, 24, &country)).expect("written");
    let missing = Geo::open(&config).expect_err("no ASN database").to_string();
    assert!(missing.contains("asn.mmdb"), "{missing}");
    std::fs::write(folder.join("asn.mmdb"), asn_row(64500)).expect("written");
    let geo = Geo::open(&config).expect("databases");
    let place = |addr: &str| geo.place(addr.parse().expect("address"));
    let expected = Place {
        country: Some("CH".into()),
        asn: Some(64500),
        organisation: Some("Example Networks of some length".into()),
    };
    assert_eq!(place("192.0.2.7"), expected);
    assert_eq!(place("::ffff:192.0.2.7"), expected);
    assert_eq!(place("192.0.3.7"), Place::default());
    assert_eq!(place("2001:db8::1"), Place::default());
    assert!(!geo.refresh().expect("unchanged"));
    std::fs::write(folder.join("asn.mmdb"), b"no database at all").expect("written");
    assert!(geo.refresh().is_err());
    assert_eq!(geo.asn("192.0.2.7".parse().expect("address")), Some(64500), "the former one stays");
    let mut longer = asn_row(64501);
    longer.push(0);
    std::fs::write(folder.join("asn.mmdb"), longer).expect("written");
    assert!(geo.refresh().expect("read"));
    assert_eq!(geo.asn("192.0.2.7".parse().expect("address")), Some(64501));
    std::fs::remove_dir_all(&folder).expect("removed");
}
