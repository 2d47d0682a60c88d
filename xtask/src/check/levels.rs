//! The level table of docs/architecture.md: a module of the daemon imports only from lower levels, and modules of one
//! level never import each other.
//!
//! The page is the table; this reads it, so that the two can't drift apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::source::{Token, tokens};

/// Where the table is.
const PAGE: &str = "docs/architecture.md";
/// The crate that the table is about.
const SOURCE: &str = "gateway-userspace/src";

/// Module name to level.
type Levels = BTreeMap<String, u32>;

/// Checks every file of the daemon.
pub fn check(root: &Path, files: &[PathBuf]) -> Result<String> {
    let page = std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let levels = table(&page);
    if levels.is_empty() {
        bail!("{PAGE} has no table of levels (rows such as \"| 1 | `config` |\")");
    }
    let mut wrong = Vec::new();
    let mut modules = BTreeSet::new();
    for file in files {
        let Ok(inside) = file.strip_prefix(SOURCE) else { continue };
        let Some(place) = Place::of(inside) else { continue };
        modules.insert(place.module.clone());
        let text = std::fs::read_to_string(root.join(file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        for (line, why) in judge(&levels, &place, &text) {
            wrong.push(format!("{}:{line}: {why}", file.display()));
        }
    }
    if wrong.is_empty() {
        return Ok(format!("{} modules against {PAGE}", modules.len()));
    }
    wrong.sort();
    bail!("{}\n{PAGE} has the table", wrong.join("\n"))
}

/// The rows of the table: a number, then names in backticks. Names with a dash are crates, not modules.
fn table(page: &str) -> Levels {
    let mut levels = Levels::new();
    // Only the section of that name: other tables of the page count their rows too.
    let section = page.split_once("\n## Levels").map_or(page, |(_, rest)| rest);
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    for row in section.lines() {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let Some(level) = cells.next().and_then(|cell| cell.parse().ok()) else { continue };
        for name in cells.next().unwrap_or_default().split('`').skip(1).step_by(2) {
            if !name.contains('-') {
                levels.insert(name.to_owned(), level);
            }
        }
    }
    levels
}

/// Where a file stands in the crate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The top-level module that it belongs to.
    module: String,
    /// How many `super` lead from its top to the crate's root.
    depth: usize,
}

impl Place {
    /// Of a path below `src`; `None` for lib.rs, which is the list of modules.
    fn of(inside: &Path) -> Option<Self> {
        let mut names: Vec<String> =
            inside.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
        if names.last().is_some_and(|name| name == "mod") {
            names.pop();
        }
        match names.as_slice() {
            [] => None,
            [only] if only == "lib" => None,
            [first, ..] => Some(Self { module: first.clone(), depth: names.len() }),
        }
    }
}

/// What is wrong in one file: line and sentence.
fn judge(levels: &Levels, place: &Place, text: &str) -> Vec<(usize, String)> {
    let from = &place.module;
    let Some(own) = levels.get(from) else {
        return vec![(1, format!("module `{from}` stands in no level"))];
    };
    let mut wrong = Vec::new();
    for (line, to) in imports(place, &tokens(text)) {
        if to == *from {
            continue;
        }
        match levels.get(to) {
            None => wrong.push((line, format!("`{from}` imports `crate::{to}`, which stands in no level"))),
            Some(level) if level == own => wrong.push((
                line,
                format!("`{from}` imports `{to}`, and both stand at level {own}: `app` connects modules of one level"),
            )),
            Some(level) if level > own => {
                wrong.push((line, format!("`{from}` (level {own}) imports `{to}` (level {level}) from above it")));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// The top-level names of the crate that a file names, through `crate::`, `gateway::` (in main) or enough `super::`.
fn imports<'a>(place: &Place, tokens: &[Token<'a>]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut braces = 0_usize;
    // Depths of braces at which inline modules are open.
    let mut inline: Vec<usize> = Vec::new();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                inline.retain(|open| *open < braces);
            }
            "mod" if text(at + 2) == "{" => inline.push(braces),
            "crate" if is_path(tokens, at) => names(tokens, at + 3, &mut found),
            "gateway" if place.module == "main" && is_path(tokens, at) => names(tokens, at + 3, &mut found),
            "super" => {
                let mut count = 0;
                while text(at) == "super" && is_path(tokens, at) {
                    count += 1;
                    at += 3;
                }
                if count > 0 {
                    if count == place.depth + inline.len() {
                        names(tokens, at, &mut found);
                    }
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Whether the token at `at` is followed by `::`.
fn is_path(tokens: &[Token<'_>], at: usize) -> bool {
    let colon = |at: usize| tokens.get(at).is_some_and(|token| token.text == ":");
    colon(at + 1) && colon(at + 2)
}

/// The first names of what follows `crate::`: one, or those of a group in braces.
fn names<'a>(tokens: &[Token<'a>], at: usize, found: &mut Vec<(usize, &'a str)>) {
    let Some(first) = tokens.get(at) else { return };
    if first.text != "{" {
        found.push((first.line, first.text));
        return;
    }
    let mut depth = 0_usize;
    let mut begins = true;
    for token in &tokens[at..] {
        match token.text {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            "," if depth == 1 => begins = true,
            name if depth == 1 && begins => {
                found.push((token.line, name));
                begins = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# x\n| level | modules |\n|---|---|\n| 0 | crates `gateway-common` |\n| 1 | `config`, `client` |\n\
                        | 2 | `bans`, `limits` |\n| 7 | `app` |\n| 8 | `main` |\n";

    #[test]
    fn the_table_is_read_from_the_page() {
        let levels = table(PAGE);
        let rows: Vec<String> = levels.iter().map(|(name, level)| format!("{name} {level}")).collect();
        assert_eq!(rows, ["app 7", "bans 2", "client 1", "config 1", "limits 2", "main 8"]);
    }

    #[test]
    fn places() {
        for (path, expected) in [
            ("lib.rs", None),
            ("main.rs", Some(("main", 1))),
            ("app.rs", Some(("app", 1))),
            ("bans/mod.rs", Some(("bans", 1))),
            ("bans/ledger.rs", Some(("bans", 2))),
            ("config/edge/mod.rs", Some(("config", 2))),
        ] {
            let place = Place::of(Path::new(path));
            assert_eq!(place.as_ref().map(|p| (p.module.as_str(), p.depth)), expected, "{path}");
        }
    }

    #[test]
    fn only_lower_levels() {
        let rows = [
            ("bans/mod.rs", "use crate::config::Span;", ""),
            ("bans/mod.rs", "use crate::bans::ledger::Ledger;", ""),
            ("bans/mod.rs", "use crate::limits::Policy;", "both stand at level 2"),
            ("config/mod.rs", "use crate::bans::Offence;", "from above it"),
            ("config/mod.rs", "fn f() { crate::app::run() }", "from above it"),
            ("bans/mod.rs", "use crate::{config::{Span, limits}, client};", ""),
            ("bans/mod.rs", "use crate::{client, limits::Policy};", "both stand at level 2"),
            ("bans/mod.rs", "use super::limits::Policy;", "both stand at level 2"),
            ("bans/ledger.rs", "use super::limits;", ""),
            ("bans/ledger.rs", "use super::super::limits::Policy;", "both stand at level 2"),
            ("bans/mod.rs", "mod tests { use super::*; use super::super::limits; }", "both stand at level 2"),
            ("bans/mod.rs", "mod tests { fn f() { { } } } use super::limits;", "both stand at level 2"),
            ("bans/mod.rs", "pub(crate) fn f() {}", ""),
            ("bans/mod.rs", "pub(in crate::bans) fn f() {}", ""),
            ("bans/mod.rs", "// use crate::limits;\nconst X: &str = \"crate::limits\";", ""),
            ("bans/mod.rs", "use crate::nothing;", "stands in no level"),
            ("new/mod.rs", "", "stands in no level"),
            ("main.rs", "use gateway::app;", ""),
            ("main.rs", "use gateway::news;", "stands in no level"),
        ];
        for (path, source, expected) in rows {
            let place = Place::of(Path::new(path)).unwrap();
            let wrong = judge(&table(PAGE), &place, source);
            let first = wrong.first().map_or("", |(_, why)| why.as_str());
            assert_eq!(first.is_empty(), expected.is_empty(), "{path}: {source}: {first}");
            assert!(first.contains(expected), "{path}: {source}: {first}");
        }
    }
}
