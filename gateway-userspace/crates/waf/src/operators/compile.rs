//! From an operator's name and argument to what runs.

use memchr::memmem;

use super::numeric::{Comparison, parse_integer};
use super::pattern::Pattern;
use super::verify::NumberKind;
use super::{ByteRange, CompileContext, MacroPattern, OperatorError, OperatorKind, Phrases, has_macro};
use super::{ip_match, pm};

/// The operator of that name, with the name as the manual writes it.
pub(super) fn compile(
    name: &str,
    argument: &str,
    context: &CompileContext<'_>,
) -> Result<(&'static str, OperatorKind), OperatorError> {
    let known = match name.to_ascii_lowercase().as_str() {
        "beginswith" => ("beginsWith", OperatorKind::BeginsWith),
        "contains" => ("contains", contains(argument)),
        "containsword" => ("containsWord", OperatorKind::ContainsWord),
        "detectsqli" => ("detectSQLi", OperatorKind::DetectSqli),
        "detectxss" => ("detectXSS", OperatorKind::DetectXss),
        "endswith" => ("endsWith", OperatorKind::EndsWith),
        "eq" => ("eq", numeric(Comparison::Equal, argument)),
        "ge" => ("ge", numeric(Comparison::GreaterOrEqual, argument)),
        "geolookup" => ("geoLookup", OperatorKind::GeoLookup),
        "gt" => ("gt", numeric(Comparison::Greater, argument)),
        "ipmatch" => ("ipMatch", OperatorKind::IpMatch(ip_match::set_of_argument("ipMatch", argument)?)),
        "ipmatchfromfile" | "ipmatchf" => {
            let set = ip_match::set_of_files("ipMatchFromFile", argument, context)?;
            ("ipMatchFromFile", OperatorKind::IpMatch(set))
        }
        "le" => ("le", numeric(Comparison::LessOrEqual, argument)),
        "lt" => ("lt", numeric(Comparison::Less, argument)),
        "nomatch" => ("noMatch", OperatorKind::NoMatch),
        "pm" => ("pm", OperatorKind::Pm(Phrases::new("pm", pm::phrases_of_argument(argument)?)?)),
        "pmfromfile" | "pmf" => {
            let phrases = pm::phrases_of_files("pmFromFile", argument, context)?;
            ("pmFromFile", OperatorKind::Pm(Phrases::new("pmFromFile", phrases)?))
        }
        "rbl" => ("rbl", rbl(argument)?),
        "rx" if has_macro(argument) => ("rx", OperatorKind::RxMacro(MacroPattern::default(), false)),
        "rx" => ("rx", OperatorKind::Rx(Pattern::new(argument.as_bytes())?)),
        "rxglobal" if has_macro(argument) => {
            ("rxGlobal", OperatorKind::RxMacro(MacroPattern::default(), true))
        }
        "rxglobal" => ("rxGlobal", OperatorKind::RxGlobal(Pattern::new(argument.as_bytes())?)),
        "streq" => ("streq", OperatorKind::Streq),
        "strmatch" => ("strmatch", contains(argument)),
        "unconditionalmatch" => ("unconditionalMatch", OperatorKind::UnconditionalMatch),
        "validatebyterange" => {
            ("validateByteRange", OperatorKind::ValidateByteRange(Box::new(ByteRange::new(argument)?)))
        }
        "validateurlencoding" => ("validateUrlEncoding", OperatorKind::ValidateUrlEncoding),
        "validateutf8encoding" => ("validateUtf8Encoding", OperatorKind::ValidateUtf8Encoding),
        "verifycc" => ("verifyCC", verify("verifyCC", NumberKind::PaymentCard, argument)?),
        "verifycpf" => ("verifyCPF", verify("verifyCPF", NumberKind::Cpf, argument)?),
        "verifyssn" => ("verifySSN", verify("verifySSN", NumberKind::Ssn, argument)?),
        "verifysvnr" => ("verifySVNR", verify("verifySVNR", NumberKind::Svnr, argument)?),
        "within" => ("within", OperatorKind::Within),
        other => {
            let refused = REFUSED.iter().find(|(refused, _)| refused.eq_ignore_ascii_case(other));
            return Err(match refused {
                Some(&(name, reason)) => OperatorError::Unsupported { name, reason },
                None => OperatorError::Unknown { name: name.to_owned() },
            });
        }
    };
    Ok(known)
}

/// Operators of ModSecurity v2, v3 or Coraza that this engine does not have, each with the reason.
const REFUSED: &[(&str, &str)] = &[
    (
        "fuzzyHash",
        "ssdeep similarity needs signature files of its own format; scan uploads outside of the rules",
    ),
    (
        "gsbLookup",
        "the Safe Browsing list format that it read is no longer published; use @pmFromFile with a list of your own",
    ),
    (
        "inspectFile",
        "it runs a program for each file; a rule never starts a process. Scan uploads outside of the rules",
    ),
    ("restpath", "it belongs to Coraza only; write the path as @rx"),
    ("rsub", "it rewrites bodies, which this engine does not do"),
    ("validateDTD", "DTDs are not read, for they let a document make the parser fetch and expand"),
    ("validateHash", "SecHashEngine is not part of ModSecurity v3"),
    ("validateNid", "it belongs to Coraza only; use @verifySSN or @rx"),
    (
        "validateSchema",
        "it needs a schema validator; validate in the application, or check fields with XML and ARGS selectors",
    ),
];

fn contains(argument: &str) -> OperatorKind {
    let finder =
        (!has_macro(argument)).then(|| Box::new(memmem::Finder::new(argument.as_bytes()).into_owned()));
    OperatorKind::Contains(finder)
}

fn numeric(comparison: Comparison, argument: &str) -> OperatorKind {
    OperatorKind::Numeric(comparison, (!has_macro(argument)).then(|| parse_integer(argument.as_bytes())))
}

fn rbl(argument: &str) -> Result<OperatorKind, OperatorError> {
    let is_zone = !argument.is_empty()
        && argument.len() <= 253
        && argument.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if is_zone {
        Ok(OperatorKind::Rbl)
    } else {
        Err(OperatorError::Argument { name: "rbl", reason: format!("{argument:?} is not a DNS zone") })
    }
}

fn verify(name: &'static str, kind: NumberKind, argument: &str) -> Result<OperatorKind, OperatorError> {
    if argument.is_empty() {
        return Err(OperatorError::Argument {
            name,
            reason: "it needs a pattern that finds the candidates".to_owned(),
        });
    }
    Ok(OperatorKind::Verify(kind, Pattern::new(argument.as_bytes())?))
}
