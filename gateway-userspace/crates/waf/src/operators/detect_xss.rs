//! `@detectXSS`: libinjection's HTML contexts, extended by the event handlers that browsers have learnt since.

use libinjectionrs::XssDetector;
use libinjectionrs::xss::{Html5Flags, Html5State, TokenType};

/// Whether the value looks like cross-site scripting.
pub(super) fn is_xss(value: &[u8]) -> bool {
    // Every verdict of libinjection needs a tag, a comment, a doctype or an attribute with a value.
    if memchr::memchr2(b'<', b'=', value).is_none() {
        return false;
    }
    XssDetector::new().detect(value).is_injection() || has_newer_event_handler(value)
}

const CONTEXTS: [Html5Flags; 5] = [
    Html5Flags::DataState,
    Html5Flags::ValueNoQuote,
    Html5Flags::ValueSingleQuote,
    Html5Flags::ValueDoubleQuote,
    Html5Flags::ValueBackQuote,
];

/// Whether, in one of the contexts, an attribute of [`NEWER_EVENTS`] has a value.
fn has_newer_event_handler(value: &[u8]) -> bool {
    memchr::memchr(b'=', value).is_some()
        && may_name_a_handler(value)
        && CONTEXTS.iter().any(|context| {
            let mut tokens = Html5State::new(value, *context);
            let mut after_handler = false;
            while tokens.next() {
                if after_handler && tokens.token_type == TokenType::AttrValue {
                    return true;
                }
                after_handler = tokens.token_type == TokenType::AttrName
                    && tokens.token_start.get(..tokens.token_len).is_some_and(is_newer_event_handler);
            }
            false
        })
}

/// Whether the letters `on` stand somewhere, in any case and with any NUL bytes between.
fn may_name_a_handler(value: &[u8]) -> bool {
    memchr::memchr2_iter(b'o', b'O', value).any(|at| {
        let next = value[at + 1..].iter().find(|byte| **byte != 0);
        matches!(next, Some(b'n' | b'N'))
    })
}

/// Browsers ignore case here, and old ones NUL bytes.
fn is_newer_event_handler(name: &[u8]) -> bool {
    let mut folded = [0_u8; LONGEST_EVENT + 2];
    let mut length = 0;
    for byte in name.iter().filter(|byte| **byte != 0) {
        match folded.get_mut(length) {
            Some(place) => *place = byte.to_ascii_lowercase(),
            None => return false,
        }
        length += 1;
    }
    folded[..length]
        .strip_prefix(b"on")
        .and_then(|event| std::str::from_utf8(event).ok())
        .is_some_and(|event| NEWER_EVENTS.binary_search(&event).is_ok())
}

const LONGEST_EVENT: usize = 34;

/// Events of HTML, Pointer Events, SVG, CSS Scroll Snap, View Transitions and of single browsers that libinjectionrs 0.1.1 does not
/// know, without `on`; sorted.
const NEWER_EVENTS: &[&str] = &[
    "afterscriptexecute",
    "appinstalled",
    "auxclick",
    "beforeinstallprompt",
    "beforematch",
    "beforescriptexecute",
    "beforetoggle",
    "beforexrselect",
    "begin",
    "bounce",
    "characteristicvaluechanged",
    "command",
    "contentvisibilityautostatechange",
    "contextlost",
    "contextrestored",
    "currententrychange",
    "currentscreenchange",
    "deviceorientationabsolute",
    "dragexit",
    "fencedtreeclick",
    "formdata",
    "freeze",
    "fullscreenchange",
    "fullscreenerror",
    "interest",
    "location",
    "loseinterest",
    "managedconfigurationchange",
    "mozfullscreenchange",
    "mozfullscreenerror",
    "msgesturechange",
    "msgesturedoubletap",
    "msgestureend",
    "msgesturehold",
    "msgesturestart",
    "msgesturetap",
    "mspointerdown",
    "navigate",
    "navigateerror",
    "navigatesuccess",
    "overscroll",
    "pagereveal",
    "pageswap",
    "pointerrawupdate",
    "portalactivate",
    "prerenderingchange",
    "promptaction",
    "promptdismiss",
    "readingerror",
    "repeat",
    "repeatevent",
    "screenschange",
    "scrollend",
    "scrollsnapchange",
    "scrollsnapchanging",
    "sinkchange",
    "snapchanged",
    "snapchanging",
    "timezonechange",
    "validationstatuschange",
    "voiceschanged",
    "windowcontrolsoverlaychange",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn verdicts() {
        for (value, expected) in [
            ("<script>alert(1)</script>", true),
            ("<a href=\"javascript:alert(1)\">", true),
            ("\" onclick=alert(1) x=\"", true),
            ("<a onpointerrawupdate=alert(1)>", true),
            ("<a ONPointerRAWupdate = alert(1)>", true),
            ("<a on\0pointerrawupdate=alert(1)>", true),
            ("' onscrollend='x", true),
            ("` onbeforetoggle=`x", true),
            ("<a onpointerrawupdate>", false),
            ("<a onpointerrawupdates=1>", false),
            ("<p>hello</p>", false),
            ("a=b", false),
            ("on time", false),
            ("", false),
        ] {
            assert_eq!(is_xss(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn the_newer_events_are_sorted_and_all_found() {
        assert!(NEWER_EVENTS.is_sorted());
        assert_eq!(NEWER_EVENTS.iter().map(|event| event.len()).max(), Some(LONGEST_EVENT - 2));
        for event in NEWER_EVENTS {
            let value = format!("<x on{event}=1>");
            assert!(is_xss(value.as_bytes()), "{event}");
            assert!(!XssDetector::new().detect(value.as_bytes()).is_injection(), "{event} is known by now");
        }
    }

    /// The screen may only pass what libinjection passes.
    #[test]
    fn the_screen_is_sound() {
        const PIECES: &[&str] = &[
            "script",
            "svg",
            "on",
            "click",
            "javascript:",
            "\"",
            "'",
            "`",
            ">",
            "/",
            " ",
            "!",
            "--",
            "xmlns",
            "href",
            "style",
            "a",
            "[if",
            "import",
            "%",
            "?",
            "&#60;",
            "&lt;",
            "\0",
            "\t",
            "x:",
            "doctype",
        ];
        let mut random = Random::new(11);
        for _ in 0..30_000 {
            let value: String = (0..=random.below(9)).map(|_| PIECES[random.below(PIECES.len())]).collect();
            assert!(!XssDetector::new().detect(value.as_bytes()).is_injection(), "{value:?}");
        }
    }
}
