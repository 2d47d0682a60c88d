use super::*;
use crate::testing::Random;

const TYPE: &[u8] = b"multipart/form-data; boundary=b0";

fn parsed(body: &[u8]) -> Multipart {
    parse(TYPE, body, &MultipartLimits::default())
}

/// A body of parts, each given by its headers and its content, framed as it should be.
fn framed(parts: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (headers, content) in parts {
        body = format!("{body}--b0\r\n{headers}\r\n\r\n{content}\r\n");
    }
    body + "--b0--\r\n"
}

fn field(name: &str) -> String {
    format!("Content-Disposition: form-data; name=\"{name}\"")
}

#[test]
fn fields_and_files() {
    let file = "Content-Disposition: form-data; name=\"f\"; filename=\"C:\\\\a \\\"b\\\".txt\"\r\nContent-Type: text/plain";
    let body = framed(&[(&field("a"), "1"), (file, "x\r\n-- y\n"), (&field("e"), "")]);
    let got = parsed(body.as_bytes());
    assert_eq!(got.error, None);
    let contents: Vec<_> = got.parts.iter().map(|part| &body[part.content.clone()]).collect();
    assert_eq!(contents, ["1", "x\r\n-- y\n", ""]);
    let names: Vec<_> =
        got.parts.iter().map(|part| String::from_utf8_lossy(&part.name).into_owned()).collect();
    assert_eq!(names, ["a", "f", "e"]);
    assert_eq!(got.parts[1].filename.as_deref(), Some(&b"C:\\a \"b\".txt"[..]));
    assert!(got.parts[1].is_file() && !got.parts[0].is_file());
    let headers: Vec<_> = got.parts[1].headers.iter().map(|header| &body[header.clone()]).collect();
    assert_eq!(headers, file.split("\r\n").collect::<Vec<_>>());
    assert_eq!(got.flags.unmatched_boundary, UnmatchedBoundary::Framed);
    assert!(!got.strict_error());
    let clean = parsed(framed(&[(&field("a"), "1")]).as_bytes());
    let flags = MultipartFlags { crlf_line: true, ..MultipartFlags::default() };
    assert_eq!((clean.flags, clean.error), (flags, None));
    assert_eq!(parsed(b""), Multipart::default());
}

/// `set` changes the flags of a clean body (CRLF lines) to those expected.
fn check_flags(content_type: &str, body: &str, set: impl Fn(&mut MultipartFlags), parts: usize) {
    let got = parse(content_type.as_bytes(), body.as_bytes(), &MultipartLimits { parts: 100, files: 1 });
    let mut expected = MultipartFlags { crlf_line: true, ..MultipartFlags::default() };
    set(&mut expected);
    assert_eq!((got.flags, got.parts.len()), (expected, parts), "{content_type} {body}");
    assert_eq!(got.error, None, "{content_type} {body}");
}

#[test]
fn each_flag() {
    let plain = "multipart/form-data; boundary=b0";
    let body = framed(&[(&field("a"), "1")]);
    check_flags("multipart/form-data; boundary=\"b0\"", &body, |flags| flags.boundary_quoted = true, 1);
    check_flags(
        "multipart/form-data; boundary = b0",
        &body.replace("b0", " b0"),
        |flags| flags.boundary_whitespace = true,
        1,
    );
    check_flags("Multipart/Form-Data boundary=b0", &body, |flags| flags.missing_semicolon = true, 1);
    check_flags(plain, &format!("x\r\n{body}"), |flags| flags.data_before = true, 1);
    check_flags(plain, &format!("{body}x"), |flags| flags.data_after = true, 1);
    let lf = body.replace("\r\n", "\n");
    check_flags(plain, &lf, |flags| (flags.lf_line, flags.crlf_line) = (true, false), 1);
    check_flags(plain, &lf.replacen('\n', "\r\n", 1), |flags| flags.lf_line = true, 1);
    let folded = framed(&[("Content-Disposition: form-data;\r\n name=\"a\"", "1")]);
    check_flags(plain, &folded, |flags| flags.header_folding = true, 1);
    let odd = framed(&[("Content-Disposition: form-data;\r\n\x0Bname=\"a\"", "1")]);
    check_flags(plain, &odd, |flags| (flags.header_folding, flags.invalid_header_folding) = (true, true), 1);
    let apostrophes = framed(&[("Content-Disposition: form-data; name='a'", "1")]);
    check_flags(plain, &apostrophes, |flags| flags.invalid_quoting = true, 1);
    let apostrophe = framed(&[("Content-Disposition: form-data; name=a'b", "1")]);
    check_flags(plain, &apostrophe, |flags| flags.invalid_quoting = true, 1);
    check_flags(plain, &framed(&[(&field("it's"), "1")]), |_| {}, 1);
    let cut = format!("--b0\r\n{}\r\n{body}", field("x"));
    check_flags(plain, &cut, |flags| flags.invalid_part = true, 1);
    let file = "Content-Disposition: form-data; name=\"f\"; filename=\"x\"";
    check_flags(plain, &framed(&[(file, "1"), (file, "2")]), |flags| flags.file_limit_exceeded = true, 2);
    check_flags(
        plain,
        &framed(&[(&field("a"), "--x")]),
        |flags| flags.unmatched_boundary = UnmatchedBoundary::Framed,
        1,
    );
    check_flags(
        plain,
        &framed(&[(&field("a"), "x--b0")]),
        |flags| flags.unmatched_boundary = UnmatchedBoundary::Framed,
        1,
    );
    check_flags(plain, &framed(&[(&field("a"), "--\r\nx-b0\r\n-b0")]), |_| {}, 1);
    check_flags("multipart/form-data; boundary=boundary", &body.replace("b0", "boundary"), |_| {}, 1);
    // The last line needs no end.
    check_flags(plain, body.trim_end(), |_| {}, 1);
}

#[test]
fn each_error() {
    let good = framed(&[(&field("a"), "1")]);
    for (content_type, expected) in [
        ("multipart/mixed; boundary=b0", "not multipart/form-data"),
        ("multipart/form-data", "no boundary"),
        ("multipart/form-data; BOUNDARY=b0", "upper-case parameter name"),
        ("multipart/form-data; boundary=b0; boundary=b1", "several boundary parameters"),
        ("multipart/form-data; x; boundary=b0", "malformed"),
        ("multipart/form-data; boundary", "malformed"),
        ("multipart/form-data; boundaryx=b0", "parameter name"),
        ("multipart/form-data; boundary=", "empty"),
        ("multipart/form-data; boundary=\"b0", "quote"),
        ("multipart/form-data; boundary=\"", "quote"),
        ("multipart/form-data; boundary=b0; charset=x", "characters"),
        ("multipart/form-data; boundary=b0 ", "characters"),
        ("multipart/form-data; boundary=b@", "characters"),
    ] {
        let got = parse(content_type.as_bytes(), good.as_bytes(), &MultipartLimits::default());
        assert_eq!(got.error, Some(MultipartError::ContentType(expected)), "{content_type}");
        assert!(got.strict_error());
    }
    let with = |headers: &str| framed(&[(headers, "1")]);
    for (body, expected) in [
        ("x\r\n".to_owned(), "no boundaries found"),
        (good.replace("--b0--\r\n", ""), "final boundary missing"),
        (good.replace("--b0--\r\n", "--b0"), "final boundary missing"),
        (good.clone() + "--b0--\r\n", "invalid boundary at byte 61 (another one after the final one)"),
        (good.replacen("--b0\r\n", "--b0 \r\n", 1), "invalid boundary at byte 0 (something follows it)"),
        (good.replacen("--b0\r\n", "-- b0\r\n", 1), "invalid boundary at byte 0 (whitespace before it)"),
        (with("Content-Disposition form-data"), "invalid part header at byte 6 (no colon)"),
        (with(": x"), "invalid part header at byte 6 (no name)"),
        (with(" x: y"), "invalid part header at byte 6 (a continuation of nothing)"),
        (with("a\0: y"), "invalid part header at byte 6 (a NUL byte)"),
        (with(&format!("a: {}", "x".repeat(5000))), "invalid part header at byte 6 (longer than"),
        (
            with(&format!("{}\r\n{}", field("a"), field("b"))),
            "invalid part header at byte 48 (a header twice)",
        ),
        (with("Content-Type: text/plain"), "invalid Content-Disposition at byte 34 (it is missing)"),
        (
            with("Content-Disposition: attachment; name=\"a\""),
            "invalid Content-Disposition at byte 51 (not form-data)",
        ),
        (
            with("Content-Disposition: form-data; filename=\"a\""),
            "invalid Content-Disposition at byte 54 (no name)",
        ),
        (
            with("Content-Disposition: form-data; name=\"\""),
            "invalid Content-Disposition at byte 49 (no name)",
        ),
        (
            with("Content-Disposition: form-data; name=\"a"),
            "invalid Content-Disposition at byte 49 (a quote is not closed)",
        ),
        (
            with("Content-Disposition: form-data; name=a b"),
            "invalid Content-Disposition at byte 50 (something after a value)",
        ),
        (
            with("Content-Disposition: form-data; name=a;"),
            "invalid Content-Disposition at byte 49 (a semicolon at the end)",
        ),
        (
            with("Content-Disposition: form-data; name=a; name=b"),
            "invalid Content-Disposition at byte 56 (name twice)",
        ),
        (
            with("Content-Disposition: form-data; size=1; name=b"),
            "invalid Content-Disposition at byte 56 (an unknown parameter)",
        ),
        (
            with("Content-Disposition: form-data; name=a; filename*=x"),
            "invalid Content-Disposition at byte 61 (filename* without",
        ),
    ] {
        let got = parsed(body.as_bytes());
        let error = got.error.map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with(&format!("Multipart: {expected}")), "{body}: {error}");
    }
    let many = framed(&[(&field("a"), "1"), (&field("a"), "1")]);
    let limits = MultipartLimits { parts: 1, files: 1 };
    assert_eq!(parse(TYPE, many.as_bytes(), &limits).error, Some(MultipartError::TooManyParts { limit: 1 }));
}

#[test]
fn a_body_that_ends_early_has_its_last_part() {
    let body = format!("--b0\r\n{}\r\n\r\n1 union sel", field("a"));
    let got = parsed(body.as_bytes());
    assert_eq!(got.error, Some(MultipartError::NoFinalBoundary));
    assert_eq!(got.parts.iter().map(|part| &body[part.content.clone()]).collect::<Vec<_>>(), ["1 union sel"]);
}

#[test]
fn extended_file_names() {
    for (parameters, plain, extended) in [
        ("filename*=UTF-8''%e2%82%ac.php", None, Some("€.php")),
        ("filename=\"a.txt\"; filename*=utf-8'en'b.php", Some("a.txt"), Some("b.php")),
        ("filename=\"\"", None, None),
        ("filename=a.txt", Some("a.txt"), None),
    ] {
        let body = framed(&[(&format!("Content-Disposition: form-data; name=\"f\"; {parameters}"), "1")]);
        let got = parsed(body.as_bytes());
        assert_eq!(got.error, None, "{parameters}");
        assert!(!got.strict_error(), "{parameters}");
        let part = &got.parts[0];
        assert_eq!(part.filename.as_deref(), plain.map(str::as_bytes), "{parameters}");
        assert_eq!(part.filename_extended.as_deref(), extended.map(str::as_bytes), "{parameters}");
    }
}

#[test]
fn random_bodies_keep_within_themselves() {
    const PIECES: &[&[u8]] = &[
        b"--b0",
        b"--b0--",
        b"--",
        b"-",
        b"\r\n",
        b"\n",
        b"\r",
        b"Content-Disposition: form-data; name=\"a\"",
        b"; filename=\"x\"",
        b"; filename*=a''b%41",
        b"Content-Type: text/plain",
        b"x",
        b":",
        b"\"",
        b"'",
        b"\\",
        b";",
        b"=",
        b" ",
        b"\0",
        b"b0",
        b"\r\n\r\n",
        b"\r\n--b0\r\n",
        b"\r\n--b0--\r\n",
    ];
    let mut random = Random::new(13);
    let mut clean = 0;
    for _ in 0..60_000 {
        let mut body = if random.below(2) == 0 {
            Vec::new()
        } else {
            format!("--b0\r\n{}\r\n\r\n", field("a")).into_bytes()
        };
        body.extend(random.value(PIECES, 200));
        let got = parsed(&body);
        clean += usize::from(got.error.is_none() && !got.parts.is_empty());
        let mut end = 0;
        for part in &got.parts {
            for header in &part.headers {
                assert!(header.start >= end && header.end <= body.len());
                end = header.end;
            }
            assert!(part.content.start >= end && part.content.end <= body.len() && !part.name.is_empty());
            end = part.content.end;
        }
    }
    assert!(clean > 10, "{clean}");
}
