//! The requests that are measured.

use std::path::Path;

use anyhow::{Result, bail};

use crate::crs::front::{self, Request};
use crate::crs::{request, suite};

/// Most requests of the mixed set.
const MIXED_REQUESTS: usize = 300;

/// Requests run one after the other; figures are for one of them on average.
#[derive(Debug)]
pub struct Case {
    /// As the report has it.
    pub name: String,
    /// The requests.
    pub requests: Vec<Request>,
    /// How many times faster than libmodsecurity at paranoia level 1, if there is a goal.
    pub goal: Option<f64>,
}

/// The six cases of the design.
pub fn fixed() -> Vec<Case> {
    let case = |name: &str, goal: f64, request: Request| Case {
        name: name.to_owned(),
        requests: vec![request],
        goal: Some(goal),
    };
    vec![
        case("GET, 3 headers, 2 args", 100.0, get("/index.html?id=42&name=alice", &SHORT)),
        case("GET of a browser, 12 headers, 3 cookies", 100.0, get("/shop/item?id=1042&ref=home", &BROWSER)),
        case(
            "form 28 B",
            100.0,
            post("application/x-www-form-urlencoded", b"name=alice&comment=hello+you".to_vec()),
        ),
        case("form 10 kB", 50.0, post("application/x-www-form-urlencoded", long_form())),
        case("English 2 kB", 50.0, post("application/x-www-form-urlencoded", english())),
        case("JSON 1 kB, 60 fields", 100.0, post("application/json", json())),
    ]
}

/// Requests of a suite, evenly spread over it: attacks and near misses.
///
/// # Errors
/// No suite there, or none of its requests is HTTP.
pub fn mixed(folder: &Path) -> Result<Case> {
    let tests = suite::read(folder)?;
    let all: Vec<Request> = tests
        .iter()
        .filter_map(|test| test.stages.as_ref().ok())
        .flatten()
        .flat_map(|stage| request::build(&stage.input))
        .filter_map(|raw| front::parse(&raw).ok())
        .filter(|request| request.body.len() < 20_000)
        .collect();
    if all.is_empty() {
        bail!("{} has no request to draw from", folder.display());
    }
    let step = all.len().div_ceil(MIXED_REQUESTS);
    let requests = all.into_iter().step_by(step).collect();
    Ok(Case { name: "mixed, from the suite".to_owned(), requests, goal: None })
}

const SHORT: [(&str, &str); 3] = [
    ("Host", "www.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("Accept", "*/*"),
];

const BROWSER: [(&str, &str); 12] = [
    ("Host", "www.example.com"),
    (
        "User-Agent",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Referer", "https://www.example.com/shop/"),
    ("Cookie", "session=4f1c9a7be2d84c55; theme=dark; _ga=GA1.2.1234567890.1700000000"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Cache-Control", "max-age=0"),
];

fn get(uri: &str, headers: &[(&str, &str)]) -> Request {
    Request {
        method: b"GET".to_vec(),
        uri: uri.as_bytes().to_vec(),
        protocol: b"HTTP/1.1".to_vec(),
        headers: headers.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect(),
        body: Vec::new(),
    }
}

fn post(content_type: &str, body: Vec<u8>) -> Request {
    let mut request = get("/submit", &SHORT);
    request.method = b"POST".to_vec();
    request.headers.push((b"Content-Type".to_vec(), content_type.as_bytes().to_vec()));
    request.headers.push((b"Content-Length".to_vec(), body.len().to_string().into_bytes()));
    request.body = body;
    request
}

fn long_form() -> Vec<u8> {
    let mut body = b"text=".to_vec();
    body.resize(10_000, b'a');
    body
}

/// Plain prose, as a comment box gets it.
fn english() -> Vec<u8> {
    const SENTENCES: [&str; 8] = [
        "The morning train was late again, and nobody on the platform seemed to mind very much.",
        "A thin rain had settled over the hills, and the shops along the main street were opening one by one.",
        "She had packed a small bag, two books, and the letter her brother sent in the spring.",
        "When the conductor came through he smiled, stamped the tickets, and asked about the weather in the north.",
        "It would be a long day, but there was coffee, and the window seat was worth the wait.",
        "Further down the valley the river had risen, and the farmers were moving their sheep to higher ground.",
        "By noon the clouds had broken and the fields shone as if someone had polished them.",
        "He wrote everything down in a blue notebook, meaning to read it to the children later.",
    ];
    let mut text = String::from("comment=");
    for sentence in SENTENCES.iter().cycle() {
        if text.len() > 2_000 {
            break;
        }
        text.push_str(&sentence.replace(' ', "+").replace(',', "%2C"));
        text.push('+');
    }
    text.truncate(2_040);
    text.into_bytes()
}

fn json() -> Vec<u8> {
    let fields: Vec<String> = (0..60)
        .map(|i| match i % 3 {
            0 => format!("\"id{i}\":{}", 1000 + i * 7),
            1 => format!("\"name{i}\":\"alice{i}\""),
            _ => format!("\"note{i}\":\"item {i} ok\""),
        })
        .collect();
    format!("{{{}}}", fields.join(",")).into_bytes()
}
