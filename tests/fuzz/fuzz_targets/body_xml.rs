//! XML bodies: no panic, nothing expanded, every path selects a part of what there is.
#![no_main]

use gateway_waf::body::xml::{XPath, XmlLimits, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let limits = XmlLimits { depth: 16, entries: 200 };
    let Ok(document) = parse(body, &limits) else {
        return;
    };
    let total: usize =
        document.texts().map(str::len).chain(document.attributes().map(|(_, value)| value.len())).sum();
    assert!(total <= body.len() * 2, "{total} bytes of {}", body.len());
    for (path, most) in [
        ("/*", document.texts().count()),
        ("//@*", document.attributes().count()),
        ("//a/b", document.texts().count()),
        ("/a//@b", document.attributes().count()),
        ("//text()", document.texts().count()),
    ] {
        let mut count = 0;
        document.select(&XPath::new(path).expect("a path"), &mut |_| count += 1);
        assert!(count <= most);
    }
});
