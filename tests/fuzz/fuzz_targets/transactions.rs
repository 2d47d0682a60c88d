//! Whole transactions: no panic, and the screen in front of the operators changes nothing.
//!
//! The input is a request: target, header lines, an empty line, the body. The rules are a small set with one of each kind,
//! or, when `GATEWAY_FUZZ_CRS` names a CRS folder, the whole of it at the highest paranoia level.
#![no_main]

use std::cell::RefCell;

use gateway_waf::Entry;
use gateway_waf::source::MemorySource;
use libfuzzer_sys::fuzz_target;

#[path = "../shared/traffic.rs"]
mod traffic;
use traffic::Pair;

thread_local! {
    static PAIR: RefCell<Pair> = RefCell::new(match std::env::var("GATEWAY_FUZZ_CRS") {
        Ok(folder) => under_crs(&folder),
        Err(_) => Pair::small(),
    });
}

fn under_crs(folder: &str) -> Pair {
    let mut files = MemorySource::new();
    let setup = ["crs-setup.conf", "crs-setup.conf.example"]
        .iter()
        .find_map(|name| std::fs::read_to_string(format!("{folder}/{name}")).ok())
        .expect("GATEWAY_FUZZ_CRS has a crs-setup.conf");
    for entry in std::fs::read_dir(format!("{folder}/rules")).expect("GATEWAY_FUZZ_CRS has rules").flatten() {
        if let (Some(name), Ok(content)) = (entry.file_name().to_str(), std::fs::read(entry.path())) {
            files = files.with(&format!("rules/{name}"), content);
        }
    }
    let entries = [
        Entry::Text { name: "crs-setup.conf", text: &setup },
        Entry::Text { name: "crs.conf", text: include_str!("../rules/crs.conf") },
        Entry::File("rules/*.conf"),
    ];
    Pair::new(&files, &entries)
}

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let uri = lines.next().unwrap_or_default();
    let mut rest = lines.next().unwrap_or_default();
    let mut headers = Vec::new();
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { break };
        headers.push((&line[..colon], &line[colon + 1..]));
    }
    PAIR.with_borrow_mut(|pair| {
        pair.run(uri, &headers, rest);
    });
});
