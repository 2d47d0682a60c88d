//! The screens before libinjection: whatever it finds by itself, the operators find too.
#![no_main]

use std::sync::LazyLock;

use gateway_waf::operators::{CompileContext, EvalContext, Operator};
use gateway_waf::source::MemorySource;
use libfuzzer_sys::fuzz_target;

static OPERATORS: LazyLock<[Operator; 2]> = LazyLock::new(|| {
    let files = MemorySource::new();
    let context = CompileContext { files: &files, directory: "" };
    ["detectSQLi", "detectXSS"].map(|name| Operator::compile(name, "", &context).expect(name))
});

fuzz_target!(|value: &[u8]| {
    let [sqli, xss] = &*OPERATORS;
    let found = sqli.evaluate(value, &mut EvalContext::new());
    assert_eq!(found, libinjectionrs::detect_sqli(value).is_injection(), "{}", value.escape_ascii());
    if libinjectionrs::detect_xss(value).is_injection() {
        assert!(xss.evaluate(value, &mut EvalContext::new()), "{}", value.escape_ascii());
    }
});
