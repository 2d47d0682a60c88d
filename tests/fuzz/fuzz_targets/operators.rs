//! Every operator on any value: no panic, and the same answer with and without captures.
#![no_main]

use std::sync::LazyLock;

use gateway_waf::operators::{Captures, CompileContext, EvalContext, Operator};
use gateway_waf::source::MemorySource;
use libfuzzer_sys::fuzz_target;

static OPERATORS: LazyLock<Vec<Operator>> = LazyLock::new(|| {
    let files = MemorySource::new();
    let context = CompileContext { files: &files, directory: "" };
    [
        ("beginsWith", "ab"),
        ("contains", "ab"),
        ("containsWord", "ab"),
        ("detectSQLi", ""),
        ("detectXSS", ""),
        ("endsWith", "ab"),
        ("eq", "1"),
        ("ge", "1"),
        ("ipMatch", "10.0.0.0/8,2001:db8::/32"),
        ("pm", "ab cd |00 ff|"),
        ("rx", r"(?i)(a|b)\s*=\s*(.)"),
        ("rx", r"(?=(a|b))\1++c"),
        ("rxGlobal", "([a-z])([0-9])?"),
        ("streq", "ab"),
        ("strmatch", "ab"),
        ("validateByteRange", "1-127"),
        ("validateUrlEncoding", ""),
        ("validateUtf8Encoding", ""),
        ("verifyCC", r"\d{13,16}"),
        ("verifyCPF", r"\d{11}"),
        ("verifySSN", r"\d{9}"),
        ("verifySVNR", r"\d{10}"),
        ("within", "ab cd"),
    ]
    .into_iter()
    .map(|(name, argument)| Operator::compile(name, argument, &context).expect(name))
    .collect()
});

fuzz_target!(|value: &[u8]| {
    let mut captures = Captures::new();
    for operator in OPERATORS.iter() {
        let plain = operator.evaluate(value, &mut EvalContext::new());
        let mut context = EvalContext { capture: Some(&mut captures), ..EvalContext::new() };
        assert_eq!(plain, operator.evaluate(value, &mut context), "@{}", operator.name());
        captures.iter(value).for_each(drop);
    }
});
