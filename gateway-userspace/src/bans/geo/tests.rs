use super::*;

#[path = "../../../../tests/src/places.rs"]
mod places;

use places::{Value, database};

fn asn_row(number: u32) -> Vec<u8> {
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
