//! Coraza's golden cases for transformations and operators, run against ours.
//!
//! The cases are not part of this repository: `GATEWAY_GOLDEN_DIR` names their folder (`transformations/*.json`, `operators/*.json`); without
//! it, `shared/data/seclang-golden` beside the workspace is used where it is. Where there are no cases there is nothing to run, and the
//! test says so; the crate's own rows for every transformation and operator are beside their code.
//!
//! Each case on which we differ is listed in [`DIFFERENCES`] with the reason. An unlisted difference fails, and so does a listed one
//! that is none any more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gateway_waf::operators::{Captures, CompileContext, EvalContext, Operator};
use gateway_waf::source::{FileSource, SourceError};
use gateway_waf::transformations::{Outcome, Transformation};
use serde_json::Value;

struct Difference {
    file: &'static str,
    /// Numbers of the cases in the file, from 0.
    cases: &'static [usize],
    reason: &'static str,
}

/// Every case on which we differ, with the reason.
const DIFFERENCES: &[Difference] = &[
    Difference {
        file: "cssDecode",
        cases: &[3, 5],
        reason: "ModSecurity v3 takes the low byte of an escape, Coraza writes the code point in UTF-8; rules see bytes",
    },
    Difference {
        file: "escapeSeqDecode",
        cases: &[5],
        reason: "of an escape without meaning, \\xag, ModSecurity v3 drops the backslash; Coraza keeps it after x alone",
    },
    Difference {
        file: "hexDecode",
        cases: &[3, 4],
        reason: "Coraza gives nothing for input that is not all hexadecimal, which one stray byte is enough to exploit; ours is decoded \
                 up to there",
    },
    Difference {
        file: "removeComments",
        cases: &[3, 4, 5, 6, 9, 10, 11, 12],
        reason: "ModSecurity reads one byte past a comment that ends the value, a NUL, and Coraza imitates it; ours ends there",
    },
    Difference {
        file: "ipMatch",
        cases: &[16],
        reason: "10.0.0.0/100 is no network: refused when the rules are read, Coraza never matches it",
    },
    Difference {
        file: "ipMatch",
        cases: &[883],
        reason: "::ffff:ffff:ffff is within ::/80 by its bits; Go takes every IPv4-mapped address for an IPv4 address only",
    },
    Difference {
        file: "nids",
        cases: &[0, 1, 2, 3],
        reason: "@validateNid belongs to Coraza only: refused with that reason",
    },
    Difference {
        file: "validateSchema",
        cases: &[0, 1, 2, 3, 4],
        reason: "@validateSchema is refused: it needs a schema validator",
    },
];

#[test]
fn golden_cases() {
    let Some(folder) = folder() else {
        eprintln!("no golden cases to run: set GATEWAY_GOLDEN_DIR to their folder");
        return;
    };
    let mut found = BTreeSet::new();
    let mut report = Vec::new();
    let mut count = 0;
    for kind in ["transformations", "operators"] {
        for (file, cases) in files(&folder.join(kind)) {
            for (number, case) in cases.iter().enumerate() {
                count += 1;
                let problem = match kind {
                    "transformations" => transformation_problem(&file, case),
                    _ => operator_problem(&folder, &file, case),
                };
                if let Some(problem) = problem {
                    found.insert((file.clone(), number));
                    report.push(((file.clone(), number), problem));
                }
            }
        }
    }
    assert!(count > 0, "there are no cases in {}", folder.display());
    let listed: BTreeSet<(String, usize)> = DIFFERENCES
        .iter()
        .flat_map(|it| {
            assert!(!it.reason.is_empty(), "{} has no reason", it.file);
            it.cases.iter().map(|number| (it.file.to_owned(), *number))
        })
        .collect();
    report.retain(|(case, _)| !listed.contains(case));
    let stale: Vec<_> = listed.difference(&found).collect();
    assert!(
        report.is_empty() && stale.is_empty(),
        "unlisted: {report:#?}\nlisted, and yet as the case says: {stale:?}"
    );
    eprintln!("{count} golden cases, {} differ as listed", found.len());
}

/// Where the cases are. A folder that was asked for has to be there.
fn folder() -> Option<PathBuf> {
    if let Some(asked) = std::env::var_os("GATEWAY_GOLDEN_DIR") {
        let folder = PathBuf::from(asked);
        assert!(folder.is_dir(), "GATEWAY_GOLDEN_DIR: {} is not a folder", folder.display());
        return Some(folder);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data/seclang-golden");
    beside.is_dir().then_some(beside)
}

/// The cases of each file of a folder, by file name without its end.
fn files(folder: &Path) -> Vec<(String, Vec<Value>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let cases: Vec<Value> =
                serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(), cases)
        })
        .collect();
    files.sort_by(|one, other| one.0.cmp(&other.0));
    files
}

/// A text of a case as bytes, with `\xHH` and `\uHHHH` resolved.
fn bytes(case: &Value, field: &str) -> Vec<u8> {
    let text = case.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let number = |digits: usize| u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok();
        let (point, length) = match rest.as_bytes() {
            [b'\\', b'x', ..] => (number(2).filter(|_| !rest[2..].starts_with('+')), 4),
            [b'\\', b'u', ..] => (number(4).filter(|_| !rest[2..].starts_with('+')), 6),
            _ => (None, 0),
        };
        match point {
            Some(point) if length == 4 => out.push(u8::try_from(point).expect("two digits")),
            Some(point) => {
                let letter = char::from_u32(point).expect("a letter");
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None => {
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[letter.len_utf8()..];
                continue;
            }
        }
        rest = &rest[length..];
    }
    out
}

fn transformation_problem(file: &str, case: &Value) -> Option<String> {
    let transformation = Transformation::from_name(file)?;
    let (input, expected) = (bytes(case, "input"), bytes(case, "output"));
    let mut out = Vec::new();
    if transformation.apply(&input, &mut out) == Outcome::Unchanged {
        out.clone_from(&input);
    }
    (out != expected).then(|| {
        format!(
            "{} gives {}, the case says {}",
            input.escape_ascii(),
            out.escape_ascii(),
            expected.escape_ascii()
        )
    })
}

struct Disk;

impl FileSource for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        std::fs::read(path)
            .map_err(|error| SourceError::Unreadable { path: path.to_owned(), reason: error.to_string() })
    }

    fn glob(&self, _pattern: &str) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }
}

fn operator_problem(folder: &Path, file: &str, case: &Value) -> Option<String> {
    let argument = String::from_utf8_lossy(&bytes(case, "param")).into_owned();
    let input = bytes(case, "input");
    let expected = case.get("ret").and_then(Value::as_i64) == Some(1);
    let directory = folder.join("operators/op");
    let context = CompileContext { files: &Disk, directory: &directory.to_string_lossy() };
    let name = case.get("name").and_then(Value::as_str).unwrap_or(file);
    let operator = match Operator::compile(name, &argument, &context) {
        Ok(operator) => operator,
        Err(error) => return Some(format!("refused: {error}; the case says {expected}")),
    };
    let mut captures = Captures::new();
    let mut evaluation = EvalContext { capture: Some(&mut captures), ..EvalContext::new() };
    if operator.evaluate(&input, &mut evaluation) != expected {
        return Some(format!("@{name} {argument} of {} is not {expected}", input.escape_ascii()));
    }
    if operator.evaluate(&input, &mut EvalContext::new()) != expected {
        return Some(format!("@{name} {argument} of {} depends on capturing", input.escape_ascii()));
    }
    let groups = case.get("re_groups")?.as_array()?;
    let expected: Vec<&[u8]> = groups.iter().filter_map(Value::as_str).map(str::as_bytes).collect();
    let got: Vec<&[u8]> = captures.iter(&input).map(|(_, text)| text).collect();
    (got != expected).then(|| format!("@{name} {argument} captures {got:?} and not {expected:?}"))
}
