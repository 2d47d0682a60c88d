//! Rules about files: how long they may be, and which may hold unsafe code.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::source::tokens;

/// Most lines of a Rust file: it is one room with one purpose.
const MAX_LINES: usize = 600;
/// Where unsafe code has business: maps and programs, sockets, the kernel's own code and its records.
const UNSAFE_FOLDERS: [&str; 4] =
    ["gateway-userspace/src/kernel", "gateway-userspace/src/listen", "gateway-ebpf", "gateway-common"];

/// Checks the length of every file.
pub fn lengths(root: &Path, files: &[PathBuf]) -> Result<String> {
    let mut wrong = Vec::new();
    let mut all = 0;
    for file in files {
        let lines = read(root, file)?.lines().count();
        all += lines;
        if lines > MAX_LINES {
            wrong.push(format!(
                "{}: {lines} lines, and {MAX_LINES} is the most: split it by purpose",
                file.display()
            ));
        }
    }
    finish(&wrong, format!("{} files, {all} lines, none over {MAX_LINES}", files.len()))
}

/// Checks that unsafe code stands only where it may.
pub fn unsafety(root: &Path, files: &[PathBuf]) -> Result<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| !UNSAFE_FOLDERS.iter().any(|folder| file.starts_with(folder))) {
        for line in unsafe_lines(&read(root, file)?) {
            wrong.push(format!("{}:{line}: unsafe code has no place here", file.display()));
        }
    }
    finish(&wrong, format!("only in {}", UNSAFE_FOLDERS.join(", ")))
}

/// Lines with an `unsafe` keyword, or with an attribute that would allow it.
fn unsafe_lines(source: &str) -> Vec<usize> {
    let tokens = tokens(source);
    let allows = |at: usize| {
        tokens[at].text == "unsafe_code"
            && at >= 2
            && matches!(tokens[at - 2].text, "allow" | "expect" | "warn")
    };
    (0..tokens.len())
        .filter(|at| tokens[*at].text == "unsafe" || allows(*at))
        .map(|at| tokens[at].line)
        .collect()
}

fn read(root: &Path, file: &Path) -> Result<String> {
    std::fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {}", file.display()))
}

fn finish(wrong: &[String], good: String) -> Result<String> {
    if wrong.is_empty() { Ok(good) } else { bail!("{}", wrong.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_is_seen_in_code_only() {
        for (source, expected) in [
            ("fn f() {}\nunsafe { g() }", vec![2]),
            ("// unsafe\n\"unsafe\"", vec![]),
            ("#![allow(unsafe_code)]", vec![1]),
            ("#![forbid(unsafe_code)]", vec![]),
            ("#![deny(unsafe_code)]", vec![]),
        ] {
            assert_eq!(unsafe_lines(source), expected, "{source}");
        }
    }
}
