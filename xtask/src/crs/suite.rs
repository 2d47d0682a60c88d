//! go-ftw suites: the YAML files of a folder as tests, stages, inputs and expectations.
//!
//! Both the present schema and the one of CRS 3 (`test_title`, `stage:` wrappers, `stop_magic`, `log_contains`) are
//! read. A file or test that cannot be read becomes a test that fails, so nothing goes missing from the count.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;

use super::template;
use super::yaml::Node;

/// Folders below the one given that are searched for suites.
const MAX_FOLDER_DEPTH: usize = 8;

/// One test, or the reason that it cannot be run.
#[derive(Debug)]
pub struct Test {
    /// `941100-3`, as the authors name it.
    pub name: String,
    /// The steps, in order, or why the test cannot be read.
    pub stages: Result<Vec<Stage>>,
}

/// A request and what must come of it.
#[derive(Debug)]
pub struct Stage {
    /// What is sent.
    pub input: Input,
    /// What must come of it.
    pub output: Output,
}

/// The request of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes sent as they are.
    Raw(Vec<u8>),
    /// A request to be put together.
    Parts(Parts),
}

/// The parts of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The method, possibly malformed on purpose.
    pub method: String,
    /// One request is sent for each.
    pub uris: Vec<String>,
    /// The protocol as it stands in the request line.
    pub version: String,
    /// Header fields in file order.
    pub headers: Vec<(String, String)>,
    /// The body before escaping.
    pub data: Option<Vec<u8>>,
    /// Whether Connection, Content-Length and Content-Type are added.
    pub autocomplete_headers: bool,
    /// Whether the test has the schema of CRS 3, whose runner changed less of a body.
    pub is_old: bool,
}

/// The expectations of a stage.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Output {
    /// Any of these statuses; empty: any status.
    pub status: Vec<u16>,
    /// Rules that must have matched and been logged.
    pub expect_ids: Vec<u64>,
    /// Rules that must not have been logged.
    pub no_expect_ids: Vec<u64>,
    /// Patterns that the log lines must match.
    pub match_regex: Vec<String>,
    /// Patterns that the log lines must not match.
    pub no_match_regex: Vec<String>,
    /// A pattern that the response must match.
    pub response_contains: Option<String>,
    /// Whether the connection must fail (`Some(true)`) or must not (`Some(false)`).
    pub expect_error: Option<bool>,
    /// Whether exactly one rule may be logged.
    pub isolated: bool,
    /// Whether a failure allows a second try.
    pub retry_once: bool,
}

/// Reads every `.yaml` and `.yml` file under `folder`, in order of path.
///
/// # Errors
/// The folder cannot be listed, or holds no suite.
pub fn read(folder: &Path) -> Result<Vec<Test>> {
    let mut files = Vec::new();
    collect(folder, 0, &mut files).with_context(|| format!("cannot list {}", folder.display()))?;
    if files.is_empty() {
        bail!("{} holds no .yaml file", folder.display());
    }
    files.sort();
    Ok(files.iter().flat_map(|file| read_file(file)).collect())
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && depth < MAX_FOLDER_DEPTH {
            collect(&path, depth + 1, files)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            files.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Vec<Test> {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let root = fs::read_to_string(path).map_err(anyhow::Error::from).and_then(|text| Node::parse(&text));
    match root.with_context(|| format!("cannot read {}", path.display())) {
        Ok(Some(root)) => tests(&root, &stem),
        Ok(None) => Vec::new(),
        Err(error) => vec![Test { name: stem, stages: Err(error) }],
    }
}

fn tests(root: &Node, stem: &str) -> Vec<Test> {
    let rule = root.get("rule_id").and_then(Node::text).unwrap_or(stem);
    let Some(tests) = root.get("tests") else {
        return vec![Test { name: stem.to_owned(), stages: Err(anyhow!("the file has no `tests`")) }];
    };
    tests.items().iter().enumerate().map(|(index, test)| read_test(test, rule, index)).collect()
}

fn read_test(test: &Node, rule: &str, index: usize) -> Test {
    let name = match (test.get("test_title").and_then(Node::text), test.get("test_id").and_then(Node::text)) {
        (Some(title), _) => title.to_owned(),
        (None, Some(id)) => format!("{rule}-{id}"),
        (None, None) => format!("{rule}-{}", index + 1),
    };
    let is_old = test.get("test_title").is_some();
    let stages = test
        .get("stages")
        .map(Node::items)
        .filter(|stages| !stages.is_empty())
        .ok_or_else(|| anyhow!("the test has no stages"))
        .and_then(|stages| stages.iter().map(|stage| read_stage(stage, is_old)).collect());
    Test { name, stages }
}

fn read_stage(stage: &Node, is_old: bool) -> Result<Stage> {
    let stage = stage.get("stage").unwrap_or(stage);
    let input = stage.get("input").ok_or_else(|| anyhow!("the stage has no input"))?;
    let output = stage.get("output").ok_or_else(|| anyhow!("the stage has no output"))?;
    Ok(Stage { input: read_input(input, is_old)?, output: read_output(output)? })
}

/// What a test says that nobody here reads makes it fail: it may be what the test is about.
fn refuse_unknown(node: &Node, what: &str, known: &[&str]) -> Result<()> {
    if let Node::Map(entries) = node
        && let Some((key, _)) = entries.iter().find(|(key, _)| !known.contains(&key.as_str()))
    {
        bail!("unknown {what} {key}");
    }
    Ok(())
}

fn read_input(input: &Node, is_old: bool) -> Result<Input> {
    const KNOWN: [&str; 18] = [
        "dest_addr",
        "port",
        "protocol",
        "method",
        "uri",
        "uris",
        "version",
        "headers",
        "ordered_headers",
        "data",
        "encoded_data",
        "encoded_request",
        "raw_request",
        "autocomplete_headers",
        "stop_magic",
        "follow_redirect",
        "save_cookie",
        "virtual_host_mode",
    ];
    refuse_unknown(input, "input", &KNOWN)?;
    if flag(input, "follow_redirect")? == Some(true) || flag(input, "save_cookie")? == Some(true) {
        bail!("follow_redirect and save_cookie are not supported");
    }
    let text = |key: &str| input.get(key).and_then(Node::text);
    let nonempty = |key: &str| text(key).filter(|value| !value.is_empty());
    if let Some(encoded) = nonempty("encoded_request") {
        return Ok(Input::Raw(base64_text(encoded).context("encoded_request")?));
    }
    if let Some(raw) = nonempty("raw_request") {
        return Ok(Input::Raw(raw.as_bytes().to_vec()));
    }
    // As go-ftw has it: with both, `data` counts.
    let data = match (input.get("data"), nonempty("encoded_data")) {
        (Some(data), _) => Some(template::expand(&lines(data)?).into_bytes()),
        (None, Some(encoded)) => Some(base64_text(encoded).context("encoded_data")?),
        (None, None) => None,
    };
    let uris = match input.get("uris").map(Node::items) {
        Some(uris) if !uris.is_empty() => uris.iter().filter_map(Node::text).map(str::to_owned).collect(),
        _ => vec![text("uri").unwrap_or("/").to_owned()],
    };
    let autocomplete = match (flag(input, "autocomplete_headers")?, flag(input, "stop_magic")?) {
        (Some(set), _) => set,
        (None, Some(stop)) => !stop,
        (None, None) => true,
    };
    Ok(Input::Parts(Parts {
        method: text("method").unwrap_or("GET").to_owned(),
        uris,
        version: text("version").unwrap_or("HTTP/1.1").to_owned(),
        headers: read_headers(input)?,
        data,
        autocomplete_headers: autocomplete,
        is_old,
    }))
}

/// A body: text, or the list of its lines that suites of CRS 3 may give.
fn lines(data: &Node) -> Result<String> {
    let lines: Option<Vec<&str>> = match data {
        Node::Map(_) => None,
        data => data.items().iter().map(Node::text).collect(),
    };
    Ok(lines.ok_or_else(|| anyhow!("data is neither text nor a list of lines"))?.join("\r\n"))
}

fn read_headers(input: &Node) -> Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    match input.get("headers") {
        Some(Node::Map(entries)) => {
            for (name, value) in entries {
                let value = value.text().ok_or_else(|| anyhow!("header {name} is not text"))?;
                headers.push((name.clone(), value.to_owned()));
            }
            headers.sort_by(|a, b| a.0.cmp(&b.0));
        }
        Some(Node::List(items)) => {
            for item in items {
                let part = |key: &str| item.get(key).and_then(Node::text);
                let (Some(name), Some(value)) = (part("name"), part("value")) else {
                    bail!("a header of the list has no name and value")
                };
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        Some(Node::Scalar(_)) | None => {}
    }
    if let Some(list) = input.get("ordered_headers") {
        for item in list.items() {
            let part = |key: &str| item.get(key).and_then(Node::text);
            headers.push((
                part("name").unwrap_or_default().to_owned(),
                part("value").unwrap_or_default().to_owned(),
            ));
        }
    }
    Ok(headers)
}

fn read_output(output: &Node) -> Result<Output> {
    const KNOWN: [&str; 9] = [
        "status",
        "response_contains",
        "log_contains",
        "no_log_contains",
        "log",
        "expect_error",
        "retry_once",
        "isolated",
        "triggered_rules",
    ];
    refuse_unknown(output, "expectation", &KNOWN)?;
    if let Some(log) = output.get("log") {
        const LOG: [&str; 4] = ["expect_ids", "no_expect_ids", "match_regex", "no_match_regex"];
        refuse_unknown(log, "expectation of the log", &LOG)?;
    }
    let list = |node: Option<&Node>| -> Vec<String> {
        node.map(|n| n.items().iter().filter_map(Node::text).map(str::to_owned).collect()).unwrap_or_default()
    };
    let numbers = |node: Option<&Node>| -> Result<Vec<u64>> {
        list(node).iter().map(|n| n.parse().with_context(|| format!("`{n}` is not a number"))).collect()
    };
    let log = output.get("log");
    let in_log = |key: &str| log.and_then(|log| log.get(key));
    let mut match_regex = list(in_log("match_regex"));
    match_regex.extend(list(output.get("log_contains")));
    let mut no_match_regex = list(in_log("no_match_regex"));
    no_match_regex.extend(list(output.get("no_log_contains")));
    Ok(Output {
        status: numbers(output.get("status"))?.into_iter().filter_map(|n| u16::try_from(n).ok()).collect(),
        expect_ids: numbers(in_log("expect_ids"))?,
        no_expect_ids: numbers(in_log("no_expect_ids"))?,
        match_regex,
        no_match_regex,
        response_contains: output.get("response_contains").and_then(Node::text).map(str::to_owned),
        expect_error: flag(output, "expect_error")?,
        isolated: flag(output, "isolated")?.unwrap_or(false),
        retry_once: flag(output, "retry_once")?.unwrap_or(false),
    })
}

fn flag(node: &Node, key: &str) -> Result<Option<bool>> {
    match node.get(key).and_then(Node::text) {
        None => Ok(None),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(other) => bail!("{key}: `{other}` is neither true nor false"),
    }
}

fn base64_text(text: &str) -> Result<Vec<u8>> {
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    Ok(base64::engine::general_purpose::STANDARD.decode(compact)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(source: &str) -> Test {
        let mut tests = tests(&Node::parse(source).expect("YAML").expect("a document"), "stem");
        assert_eq!(tests.len(), 1, "{source}");
        tests.remove(0)
    }

    #[test]
    fn both_schemas_are_read() {
        let new = only(
            "rule_id: 1\ntests:\n- test_id: 2\n  stages:\n  - input:\n      uri: /x\n    output:\n      log:\n        expect_ids: [9]\n",
        );
        let old = only(
            "meta: {}\ntests:\n- test_title: 1-2\n  stages:\n  - stage:\n      input:\n        uri: /x\n      output:\n        log_contains: id \"9\"\n",
        );
        for test in [&new, &old] {
            assert_eq!(test.name, "1-2");
            let stages = test.stages.as_ref().expect("readable");
            assert!(
                matches!(&stages[0].input, Input::Parts(parts) if parts.uris == ["/x"] && parts.method == "GET")
            );
        }
        assert_eq!(new.stages.expect("readable")[0].output.expect_ids, [9]);
        assert_eq!(old.stages.expect("readable")[0].output.match_regex, ["id \"9\""]);
    }

    #[test]
    fn a_body_may_be_a_list_of_lines() {
        let test = only(
            "tests:\n- test_title: 1-2\n  stages:\n  - input:\n      data: [a, '', b]\n    output: {}\n",
        );
        let stages = test.stages.expect("readable");
        assert!(
            matches!(&stages[0].input, Input::Parts(parts) if parts.is_old && parts.data.as_deref() == Some(b"a\r\n\r\nb"))
        );
    }

    #[test]
    fn of_two_bodies_the_plain_one_counts() {
        for (bodies, expected) in [
            ("data: plain\n      encoded_data: Y29kZWQ=", "plain"),
            ("encoded_data: Y29kZWQ=\n      data: plain", "plain"),
            ("encoded_data: Y29kZWQ=", "coded"),
        ] {
            let text = format!(
                "rule_id: 1\ntests:\n- test_id: 1\n  stages:\n  - input:\n      {bodies}\n    output: {{}}\n"
            );
            let stages = only(&text).stages.expect("readable");
            let is_it = |parts: &Parts| parts.data.as_deref() == Some(expected.as_bytes());
            assert!(matches!(&stages[0].input, Input::Parts(parts) if is_it(parts)), "{bodies}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_failing_test() {
        let rows = [
            "tests:\n- test_id: 1\n",
            "tests:\n- stages:\n  - input: {}\n",
            "tests:\n- stages:\n  - input: {encoded_request: '!'}\n    output: {}\n",
            "tests:\n- stages:\n  - input: {}\n    output: {surprise: 1}\n",
            "tests:\n- stages:\n  - input: {}\n    output: {log: {surprise: 1}}\n",
            "tests:\n- stages:\n  - input: {surprise: 1}\n    output: {}\n",
            "tests:\n- stages:\n  - input: {data: {a: b}}\n    output: {}\n",
            "nothing: 1\n",
        ];
        for source in rows {
            assert!(only(source).stages.is_err(), "{source}");
        }
    }
}
