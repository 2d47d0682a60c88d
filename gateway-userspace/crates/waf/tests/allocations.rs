//! Once warm, a benign request goes through the rules without asking the allocator for anything.

use std::sync::Arc;

use gateway_waf::source::MemorySource;
use gateway_waf::{CompileOptions, Connection, Entry, Ruleset, Services, Transaction};

/// Of the kinds that CRS consists of: gates of paranoia levels, counts, negated patterns, word lists, captures, scores, libinjection.
const RULES: &str = r#"
SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess On
SecDefaultAction "phase:1,log,auditlog,pass"
SecDefaultAction "phase:2,log,auditlog,pass"
SecAction "id:1,phase:1,pass,nolog,setvar:tx.paranoia=1,setvar:tx.score=0,setvar:tx.threshold=5,setvar:'tx.methods=GET HEAD POST OPTIONS'"
SecRule &TX:early "@eq 0" "id:2,phase:1,pass,nolog,setvar:tx.early=0"
SecRule TX:paranoia "@lt 1" "id:3,phase:1,pass,nolog,skipAfter:END-1"
SecRule REQUEST_LINE "!@rx (?i)^(?:get /[^#\?]*(?:\?[^\s\x0b#]*)?|(?:connect|options)\s[^\s]+)\s[^\s]+$" "id:4,phase:1,block,severity:WARNING,setvar:tx.score=+3"
SecRule REQUEST_METHOD "!@within %{tx.methods}" "id:5,phase:1,block,setvar:tx.score=+5"
SecRule REQUEST_HEADERS:Content-Length "!@rx ^\d+$" "id:6,phase:1,block,setvar:tx.score=+5"
SecRule REMOTE_ADDR "@ipMatch 198.51.100.0/24" "id:12,phase:1,block"
SecRule REQUEST_HEADERS_NAMES "@rx ^.*$" "id:13,phase:1,pass,nolog,capture,t:lowercase,setvar:'tx.header_%{tx.0}=/%{tx.0}/',chain"
    SecRule TX:/^header_/ "@within /proxy/ /lock-token/" "setvar:tx.score=+5"
SecRule &REQUEST_HEADERS:Host "@eq 0" "id:7,phase:1,block,setvar:tx.score=+5"
SecRule REQUEST_HEADERS:User-Agent "@pm sqlmap nikto nessus" "id:8,phase:1,block,capture,setvar:tx.score=+5"
SecRule REQUEST_URI_RAW|REQUEST_HEADERS "@rx (?i)(?:%2e|\.){2}[/\x5c]" "id:9,phase:1,block,capture,setvar:tx.score=+5"
SecRule TX:paranoia "@lt 2" "id:10,phase:1,pass,nolog,skipAfter:END-1"
SecRule REQUEST_HEADERS "@validateByteRange 32-126" "id:11,phase:1,block"
SecMarker "END-1"
SecRule REQUEST_COOKIES|REQUEST_COOKIES_NAMES|ARGS_NAMES|ARGS|XML:/* "@rx (?i)<script[^>]*>[\s\S]*?" "id:20,phase:2,block,capture,t:none,t:utf8toUnicode,t:urlDecodeUni,t:htmlEntityDecode,t:jsDecode,t:cssDecode,t:removeNulls,logdata:'%{TX.0}',setvar:tx.score=+5"
SecRule REQUEST_COOKIES|REQUEST_COOKIES_NAMES|ARGS_NAMES|ARGS|XML:/* "@detectSQLi" "id:21,phase:2,block,capture,t:none,t:urlDecodeUni,t:removeNulls,multiMatch,setvar:tx.score=+5"
SecRule REQUEST_BASENAME|REQUEST_HEADERS:User-Agent|REQUEST_HEADERS:Referer|ARGS "@detectXSS" "id:22,phase:2,block,capture,t:none,t:urlDecodeUni,setvar:tx.score=+5"
SecRule ARGS "@rx (?i)(?:^|[;&|])\s*(?:curl|wget|nc)\b" "id:23,phase:2,block,capture,t:cmdLine,setvar:tx.score=+5,chain"
    SecRule MATCHED_VARS "@rx \s" "t:none,setvar:tx.score=+1"
SecRule TX:score "@ge %{tx.threshold}" "id:30,phase:2,deny,msg:'score %{TX.score}'"
SecRule RESPONSE_STATUS "@rx ^5\d\d$" "id:40,phase:3,block"
SecRule RESPONSE_BODY "@pm ORA- mysql_" "id:41,phase:4,block"
SecAction "id:50,phase:5,pass,nolog,setvar:tx.done=1"
"#;

const BROWSER: [(&str, &str); 8] = [
    ("Host", "www.example.com"),
    (
        "User-Agent",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Referer", "https://www.example.com/shop/"),
    ("Cookie", "session=4f1c9a7be2d84c55; theme=dark; _ga=GA1.2.1234567890.1700000000"),
    ("Cache-Control", "max-age=0"),
];

fn get(tx: &mut Transaction, uri: &str, headers: &[(&str, &str)]) {
    tx.begin(&Connection {
        client: ([192, 0, 2, 7], 40_001).into(),
        server: ([192, 0, 2, 1], 443).into(),
        unix_nanos: 1_795_228_799_000_000_000,
        utc_offset_seconds: 0,
        unique_id: "unique",
        web_app_id: "",
    });
    tx.request_line(b"GET", uri.as_bytes(), b"HTTP/1.1");
    for (name, value) in headers {
        tx.request_header(name.as_bytes(), value.as_bytes());
    }
    let _ = tx.request_headers();
    let _ = tx.request_body();
    tx.response_line(200, b"HTTP/1.1", b"OK");
    tx.response_header(b"Content-Type", b"text/html");
    let _ = tx.response_headers();
    let _ = tx.response_body();
    tx.logging(1_795_228_799_000_000_001);
}

#[test]
fn a_benign_get_allocates_nothing_once_warm() {
    let entries = [Entry::Text { name: "allocations.conf", text: RULES }];
    let (ruleset, _) = Ruleset::compile(&MemorySource::new(), &entries, &CompileOptions::default())
        .expect("the rules compile");
    let mut tx = Transaction::new(Arc::new(ruleset), Services::default());
    let rows =
        [("/index.html?id=42&name=alice", &BROWSER[..3]), ("/shop/item?id=1042&ref=home", &BROWSER[..])];
    for (uri, headers) in rows {
        for _ in 0..20 {
            get(&mut tx, uri, headers);
        }
        assert!(tx.matches().is_empty(), "{uri} is not benign: {:?}", tx.matches());
        let counted = allocation_counter::measure(|| {
            for _ in 0..50 {
                get(&mut tx, uri, headers);
            }
        });
        assert_eq!(counted.count_total, 0, "{uri}: {} bytes in 50 requests", counted.bytes_total);
    }
}
