use super::memo::Memo;
use super::screen::{Asked, Screen, Screened};
use crate::bytes::ByteMask;
use crate::operators::{CompileContext, EvalContext, Operator};
use crate::source::MemorySource;

/// Operators with values that tempt the analysis: optional bytes, anchors, folded case, nested alternations.
const OPERATORS: [(&str, &str); 34] = [
    ("rx", r"(?i)<script[^>]*>"),
    ("rx", r"(?i)(?:^|[;&|`])\s*(?:c[\\'\x22]*u[\\'\x22]*r[\\'\x22]*l|w[\\'\x22]*g[\\'\x22]*e[\\'\x22]*t)\b"),
    ("rx", r"^[0-9a-f]{4,8}$"),
    ("rx", r"^(?:a|bc)*$"),
    ("rx", r"^$"),
    ("rx", r"(?:)"),
    ("rx", r"a?b?c?"),
    ("rx", r"(?i)union\s+(?:all\s+)?select"),
    ("rx", r"[\n\r]+(?:get|post)\s"),
    ("rx", r"(?s:.)\.\.[/\\]"),
    ("rx", r"[^a-z]x{3,}"),
    ("rx", r"(?:foo|ba[rz]|q(?:u(?:x|ux)|i))1"),
    ("rx", r"(?i)[A-F]{2}\d"),
    ("rx", r"\bor\b.+="),
    ("rx", r"^\d+$"),
    ("rx", r"^[^;]+;$"),
    ("rx", r"(?m)^x$"),
    ("rx", r"(?:\xc3[\x80-\xbf])+"),
    ("rx", r"(?:ab){2,3}c"),
    ("rx", r"\$\{[^}]*\}|\$\([^)]*\)"),
    ("pm", "select union Sleep( <a"),
    ("contains", "Foo"),
    ("beginsWith", "/a"),
    ("endsWith", "b/"),
    ("streq", "abc"),
    ("streq", ""),
    ("containsWord", "or"),
    ("detectXSS", ""),
    ("detectSQLi", ""),
    ("validateUrlEncoding", ""),
    ("validateUtf8Encoding", ""),
    ("validateByteRange", "32-126"),
    ("within", "abc def"),
    ("noMatch", ""),
];

const SEEDS: [&str; 30] = [
    "",
    "a",
    "x",
    "42",
    "deadbeef",
    "<SCRIPT src=x>",
    "; c'u\\r\"l http://x",
    "|wget x",
    "UNION  ALL select",
    "\r\nget /",
    "a../b",
    "../",
    "1xxx",
    "quux1",
    "bar1",
    "AB3",
    "1 or 1=1",
    "abcabc",
    "bcbca",
    "a;b;",
    "x\ny",
    "y\nx\n",
    "\u{e9}\u{e0}",
    "ababc",
    "${jndi:x}",
    "$(id)",
    "sleep(5)",
    "foo Foo",
    "/a/b/",
    "%zz%41",
];

fn operators() -> Vec<Operator> {
    let files = MemorySource::new();
    let context = CompileContext { files: &files, directory: "" };
    OPERATORS
        .iter()
        .map(|(name, argument)| {
            Operator::compile(name, argument, &context)
                .unwrap_or_else(|error| panic!("{name} {argument}: {error}"))
        })
        .collect()
}

/// A small generator: the tests need variety, not randomness.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

fn mutate(value: &mut Vec<u8>, numbers: &mut Numbers) {
    const BYTES: &[u8] = b"aAxXbc01 \\'\"<>=;|$({})/.\n\r\t%\x00\xc3\xa9orunioselctg^_-";
    let byte = BYTES[numbers.below(BYTES.len())];
    match numbers.below(4) {
        0 => value.insert(numbers.below(value.len() + 1), byte),
        1 if !value.is_empty() => {
            value.remove(numbers.below(value.len()));
        }
        2 if !value.is_empty() => {
            let at = numbers.below(value.len());
            value[at] = byte;
        }
        _ => value.extend_from_slice(SEEDS[numbers.below(SEEDS.len())].as_bytes()),
    }
}

#[test]
fn what_matches_is_a_candidate() {
    let operators = operators();
    let refs: Vec<_> = operators.iter().map(|operator| Some(Screened { operator, negated: false })).collect();
    let screen = Screen::new(&refs);
    let mut memo = Memo::default();
    let everything = screen.question(0, &vec![u64::MAX; screen.words()]);
    let among = vec![u64::MAX; screen.words()];
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut matches = 0;
    for round in 0..6000_usize {
        let mut value = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
        for _ in 0..round / SEEDS.len() % 7 {
            mutate(&mut value, &mut numbers);
        }
        matches += matched(
            &screen,
            &operators,
            &value,
            &Asked { question: &everything, among: &among, wanted: &among },
            &mut memo,
        );
    }
    assert!(matches > 1000, "the values match too little to tell: {matches}");
}

/// How many operators match a value; each of them has to be a candidate for it.
fn matched(
    screen: &Screen,
    operators: &[Operator],
    value: &[u8],
    asked: &Asked<'_>,
    memo: &mut Memo,
) -> usize {
    let mut found = vec![0; screen.words()];
    screen.candidates(value, ByteMask::of(value), asked, memo, &mut found);
    let mut matches = 0;
    for (number, operator) in operators.iter().enumerate() {
        if operator.evaluate(value, &mut EvalContext::default()) {
            matches += 1;
            let is_candidate = found[number / 64] >> (number % 64) & 1 == 1;
            assert!(is_candidate, "{:?} matches {:?}", OPERATORS[number], String::from_utf8_lossy(value));
        }
    }
    matches
}

/// After some tens of kilobytes of one kind, long values are searched by the windows of the literals that matter for it.
#[test]
fn what_matches_is_a_candidate_in_long_values_too() {
    // Of few kinds: what is put in keeps to the bytes that the text has anyway, or brings one more.
    const TEXTS: [&str; 3] = [
        "it was late; we sat (by the fire) and read. ",
        "0123456789abcdef",
        "Q=\"1\" <b> select-ion or unions, sleeps(12) in /a/b/ ",
    ];
    const INSERTS: [&str; 9] =
        ["", " or x = y", "union select", "Foo", "sleep(", "foo1 quux1", "..\\", "<scrIPT x>", "c'u\\r\"l"];
    let operators = operators();
    let refs: Vec<_> = operators.iter().map(|operator| Some(Screened { operator, negated: false })).collect();
    let screen = Screen::new(&refs);
    let mut memo = Memo::default();
    let everything = screen.question(0, &vec![u64::MAX; screen.words()]);
    let among = vec![u64::MAX; screen.words()];
    let mut numbers = Numbers(0x0f1e_2d3c_4b5a_6978);
    let mut matches = 0;
    for round in 0..1500_usize {
        let text = TEXTS[round % TEXTS.len()];
        let mut value = text.as_bytes().repeat((200 + numbers.below(3000)) / text.len() + 1);
        let insert = INSERTS[numbers.below(INSERTS.len())];
        let at = [0, numbers.below(value.len()), value.len()][numbers.below(3)];
        value.splice(at..at, insert.bytes());
        matches += matched(
            &screen,
            &operators,
            &value,
            &Asked { question: &everything, among: &among, wanted: &among },
            &mut memo,
        );
    }
    assert!(matches > 1000, "the values match too little to tell: {matches}");
    assert!(memo.focuses() >= TEXTS.len(), "few kinds of values came far enough: {}", memo.focuses());
}

#[test]
fn plain_values_have_few_candidates() {
    let operators = operators();
    let refs: Vec<_> = operators.iter().map(|operator| Some(Screened { operator, negated: false })).collect();
    let screen = Screen::new(&refs);
    let mut memo = Memo::default();
    let everything = screen.question(0, &vec![u64::MAX; screen.words()]);
    let among = vec![u64::MAX; screen.words()];
    for (value, most) in [("hello", 5), ("alice42", 6), ("2026-11-21", 6), ("www.example.com", 6)] {
        let mut found = vec![0; screen.words()];
        screen.candidates(
            value.as_bytes(),
            ByteMask::of(value.as_bytes()),
            &Asked { question: &everything, among: &among, wanted: &among },
            &mut memo,
            &mut found,
        );
        let count: u32 = found.iter().map(|word| word.count_ones()).sum();
        let names: Vec<_> = (0..OPERATORS.len())
            .filter(|n| found[n / 64] >> (n % 64) & 1 == 1)
            .map(|n| OPERATORS[n])
            .collect();
        assert!(count <= most, "{value}: {names:?}");
    }
}
