use super::*;
use crate::testing::Random;

fn parsed(input: &str) -> XmlDocument {
    parse(input.as_bytes(), &XmlLimits::default()).unwrap_or_else(|error| panic!("{input}: {error}"))
}

fn check(input: &str, texts: &[&str], attributes: &[(&str, &str)]) {
    let document = parsed(input);
    assert_eq!(document.texts().collect::<Vec<_>>(), texts, "{input}");
    assert_eq!(document.attributes().collect::<Vec<_>>(), attributes, "{input}");
}

#[test]
fn texts_and_attributes() {
    check("<a>x</a>", &["x"], &[]);
    check("<?xml version=\"1.0\"?><!-- c --><a b='1' c=\"2\"/>", &[], &[("b", "1"), ("c", "2")]);
    check("<a>un<!-- c -->i<![CDATA[on <b>]]> &lt;&#65;&#x42;&amp;</a>", &["union <b> <AB&"], &[]);
    check("<a>un<b>x</b>ion</a>", &["x", "union"], &[]);
    check("<a>\n <b> x </b>\n</a>", &[" x "], &[]);
    check("<a b='&lt;&#39;x&quot;'/>", &[], &[("b", "<'x\"")]);
    check("<s:a xmlns:s='u' s:b='1'>é</s:a>", &["é"], &[("xmlns:s", "u"), ("s:b", "1")]);
    check("\u{FEFF}<a>x</a>", &["x"], &[]);
    check("<a b='1' b='2'/>", &[], &[("b", "1"), ("b", "2")]);
    let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xE9</a>";
    let document = parse(latin, &XmlLimits::default()).expect("Latin-1");
    assert_eq!(document.texts().collect::<Vec<_>>(), ["é"]);
}

#[test]
fn what_is_refused() {
    for input in [
        "",
        "x",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a/>x",
        "x<a/>",
        "</a>",
        "<a b=1/>",
        "<a>&x;</a>",
        "<a b='&x;'/>",
        "<a>&#0;</a>",
        "<a><![CDATA[x</a>",
        "<!-- <a/>",
        "<![CDATA[x]]><a/>",
    ] {
        let got = parse(input.as_bytes(), &XmlLimits::default());
        assert!(matches!(got, Err(XmlError::Malformed { .. })), "{input}: {got:?}");
    }
    for input in ["<!DOCTYPE a><a/>", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>"] {
        assert_eq!(
            parse(input.as_bytes(), &XmlLimits::default()),
            Err(XmlError::DocumentType { offset: 0 }),
            "{input}"
        );
    }
    assert_eq!(parse(b"<a>\xFF</a>", &XmlLimits::default()), Err(XmlError::Encoding));
    let limits = XmlLimits { depth: 3, entries: 4 };
    assert!(parse(b"<a><a><a/></a></a>", &limits).is_ok());
    assert_eq!(parse(b"<a><a><a><a/></a></a></a>", &limits), Err(XmlError::TooDeep { limit: 3 }));
    assert_eq!(parse(b"<a><b/><b/><b/><b/></a>", &limits), Err(XmlError::TooMany { limit: 4 }));
    assert_eq!(parse(b"<a b='' c='' d='' e='' f=''/>", &limits), Err(XmlError::TooMany { limit: 4 }));
}

#[test]
fn paths_select() {
    let document = parsed("<r i='0'>t<a i='1' j='x'><b i='2'>u</b></a><s:c><a i='3'>v<b>w</b></a></s:c></r>");
    for (path, expected) in [
        ("/*", &["u", "w", "v", "t"][..]),
        ("//@*", &["0", "1", "x", "2", "3"]),
        ("//@i", &["0", "1", "2", "3"]),
        ("/r/@i", &["0"]),
        ("/r/a/@*", &["1", "x"]),
        ("/r/a", &["u"]),
        ("/r/a/b", &["u"]),
        ("/a", &[]),
        ("//a", &["u", "w", "v"]),
        ("//a/text()", &["v"]),
        ("//a//text()", &["u", "w", "v"]),
        ("/r/text()", &["t"]),
        ("//b", &["u", "w"]),
        ("/r//b", &["u", "w"]),
        ("/r/c/a/b", &["w"]),
        ("/r/s:c/a/@i", &["3"]),
        ("/r/x:c/a/@i", &[]),
        ("/r/*/b", &["u"]),
        ("/r/a//@i", &["1", "2"]),
        ("//*//*/b", &["u", "w"]),
    ] {
        let compiled = XPath::new(path).unwrap_or_else(|error| panic!("{error}"));
        let mut got = Vec::new();
        document.select(&compiled, &mut |value| got.push(value.to_owned()));
        assert_eq!(got, expected, "{path}");
    }
    for path in ["", "a", "/", "//", "/a[1]", "/@a/b", "/text()/a", "count(/a)", "/a/", "/child::a"] {
        assert!(XPath::new(path).is_err(), "{path}");
    }
}

#[test]
fn random_texts_do_not_panic() {
    const PIECES: &[&[u8]] = &[
        b"<",
        b">",
        b"/",
        b"<a>",
        b"</a>",
        b"<b c='d'/>",
        b"x",
        b"&lt;",
        b"&#65;",
        b"&",
        b";",
        b"<!--",
        b"-->",
        b"<![CDATA[",
        b"]]>",
        b"<?",
        b"?>",
        b"=",
        b"'",
        b"\"",
        b" ",
        b"\xC3\xA9",
        b"<!DOCTYPE",
        b"xmlns:",
    ];
    let mut random = Random::new(9);
    let everything = XPath::new("/*").expect("compiles");
    let mut taken = 0;
    for _ in 0..40_000 {
        let value = random.value(PIECES, 60);
        if let Ok(document) = parse(&value, &XmlLimits::default()) {
            taken += 1;
            let mut count = 0;
            document.select(&everything, &mut |_| count += 1);
            assert_eq!(count, document.texts().count());
        }
    }
    assert!(taken > 100, "{taken}");
}
