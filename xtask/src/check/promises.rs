//! What the pages promise of tests: each test that a page names is there, and whatever must have a test names one: the
//! codes that the gateway refuses with, the bounds of the edge, the keys of its configuration.
//!
//! A test stands in a page as `file.rs: one_test, another_test`, the file below the daemon's crate or the root.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The daemon's crate.
const CRATE: &str = "gateway-userspace";
/// The page with codes and keys.
const PAGE: &str = "docs/edge-tests.md";
/// The page with bounds.
const BOUNDS: &str = "docs/limits.md";
/// Where refusals get their codes.
const CODES: [&str; 2] =
    ["gateway-userspace/src/respond/denial.rs", "gateway-userspace/src/pipeline/path.rs"];
/// Where the configuration of the edge is read.
const CONFIGURATION: &str = "gateway-userspace/src/config/edge";

/// Checks all of it.
pub fn check(root: &Path, files: &[PathBuf]) -> Result<String> {
    let read =
        |file: &Path| std::fs::read_to_string(root.join(file)).with_context(|| format!("{}", file.display()));
    let mut wrong = Vec::new();
    let mut named = 0;
    for page in pages(&root.join("docs"))? {
        let place = page.strip_prefix(root).unwrap_or(&page);
        for (number, line) in read(place)?.lines().enumerate() {
            for (file, tests) in references(line) {
                named += tests.len();
                for missing in missing(root, file, &tests) {
                    wrong.push(format!("{}:{}: {missing}", place.display(), number + 1));
                }
            }
        }
    }

    let page = read(Path::new(PAGE))?;
    let mut codes = BTreeSet::new();
    for file in files.iter().filter(|f| f.starts_with(CRATE) && !f.to_string_lossy().contains("/tests")) {
        let text = read(file)?;
        if CODES.iter().any(|known| file == Path::new(known)) {
            codes.extend(literals(&text).map(str::to_owned));
        }
        for start in ["Denial::Request(\"", "Denial::Certificate(\""] {
            codes.extend(
                text.split(start).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned),
            );
        }
    }
    let has_row = rows(&page, "## Answers");
    compare("code", &codes, &has_row, &mut wrong);

    let mut keys = BTreeSet::new();
    for file in files.iter().filter(|f| f.starts_with(CONFIGURATION) && !f.ends_with("tests.rs")) {
        keys.extend(raw_keys(&read(file)?));
    }
    let has_row = rows(&page, "## Keys");
    compare("key", &keys, &has_row, &mut wrong);

    let bounds = read(Path::new(BOUNDS))?;
    let bounds = section(&bounds, "## Edge");
    let untested = table(bounds).filter(|row| !is_held(row.last().copied().unwrap_or_default()));
    wrong.extend(untested.map(|row| format!("{BOUNDS}: no test stands for: {}", row[0])));

    if wrong.is_empty() {
        return Ok(format!("{named} tests named, {} codes, {} keys", codes.len(), keys.len()));
    }
    bail!("{}", wrong.join("\n"))
}

/// The pages below a folder.
fn pages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(pages(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The tests that a line names, by file.
fn references(line: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    line.split('`').skip(1).step_by(2).filter_map(|code| {
        let (file, tests) = code.split_once(": ")?;
        let tests: Vec<&str> = tests.split(", ").collect();
        let is_file = file.contains('/') && Path::new(file).extension().is_some_and(|kind| kind == "rs");
        (is_file && tests.iter().all(|test| is_name(test))).then_some((file, tests))
    })
}

/// What of a reference isn't there.
fn missing(root: &Path, file: &str, tests: &[&str]) -> Vec<String> {
    let places = [root.join(CRATE).join(file), root.join(file)];
    let Some(text) = places.iter().find_map(|place| std::fs::read_to_string(place).ok()) else {
        return vec![format!("there is no {file}")];
    };
    let is_there = |test: &&&str| text.contains(&format!("fn {test}("));
    tests.iter().filter(|test| !is_there(test)).map(|test| format!("{file} has no test {test}")).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// String literals that are codes: letters, digits and `_`.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2).filter(|literal| is_name(literal))
}

/// What follows a heading, up to the next one of its kind.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let after = page.split_once(&format!("\n{heading}\n")).map_or("", |(_, after)| after);
    after.split_once("\n## ").map_or(after, |(section, _)| section)
}

/// Rows of the tables in a section, without their heads.
fn table(section: &str) -> impl Iterator<Item = Vec<&str>> {
    section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("|-"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|row| !matches!(row[0], "what" | "code" | "section"))
}

/// Whether a cell names a test, or says that reading the code has to do.
fn is_held(cell: &str) -> bool {
    references(cell).next().is_some() || cell.contains("*review*")
}

/// What the rows of a section are about: the names in backticks of the cells before the last, `Section.key` where the first
/// of several names a section.
fn rows(page: &str, heading: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for row in table(section(page, heading)) {
        let (Some(held), Some(first)) = (row.last(), row.first()) else { continue };
        if !is_held(held) {
            continue;
        }
        if heading == "## Keys" {
            let keys = row.get(1).copied().unwrap_or_default();
            found.extend(keys.split('`').skip(1).step_by(2).map(|key| format!("{first}: {key}")));
        } else {
            found.extend(first.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// `Section: key` of each key that the configuration takes: the fields of the structs named `Raw...`.
fn raw_keys(source: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for part in source.split("pub struct Raw").skip(1) {
        let Some((name, fields)) = part.split_once(" {\n") else { continue };
        if !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            continue;
        }
        for line in fields.lines().take_while(|line| *line != "}") {
            let Some((field, _)) = line.trim().trim_start_matches("pub ").split_once(": ") else { continue };
            if is_name(field) {
                keys.insert(format!("{name}: {field}"));
            }
        }
    }
    keys
}

/// Tells of what has no row, and of rows for what isn't there.
fn compare(what: &str, are: &BTreeSet<String>, have: &BTreeSet<String>, wrong: &mut Vec<String>) {
    wrong.extend(are.difference(have).map(|it| format!("{PAGE}: no row names a test for the {what} {it}")));
    wrong.extend(have.difference(are).map(|it| format!("{PAGE}: there is no {what} {it}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        for (line, expected) in [
            (
                "`src/a.rs: one, two` and `tests/b/c.rs: three`",
                vec!["src/a.rs one two", "tests/b/c.rs three"],
            ),
            ("`key: value`, `src/a.rs` (whole file)", vec![]),
            ("`src/a.rs: Not a test`", vec![]),
        ] {
            let got: Vec<String> =
                references(line).map(|(file, tests)| format!("{file} {}", tests.join(" "))).collect();
            assert_eq!(got, expected, "{line}");
        }
    }

    #[test]
    fn rows_count_where_they_name_a_test() {
        let page = "# P\n\n## Answers\n\n| code | test |\n|---|---|\n| `a`, `b` | `src/x.rs: t` |\n| `c` | none |\n\n\
                    ## Keys\n\n| section | keys | test |\n|---|---|---|\n| Tls | `d` | *review* |\n";
        assert_eq!(rows(page, "## Answers"), ["a", "b"].map(str::to_owned).into());
        assert_eq!(rows(page, "## Keys"), ["Tls: d"].map(str::to_owned).into());
    }

    #[test]
    fn keys_are_fields_of_raw_structs() {
        let source = "pub struct RawTls {\n    /// Doc: text.\n    #[serde(default)]\n    pub a: u8,\n    b_c: u8,\n}\nstruct Other {\n    d: u8,\n}\n";
        assert_eq!(raw_keys(source), ["Tls: a", "Tls: b_c"].map(str::to_owned).into());
    }
}
