//! The transformation functions of SecLang, one file each (families of one algorithm share one).
//!
//! A transformation that would change nothing says so without allocating: each looks for the first byte that it would
//! change, and only from there on copies. All are total (any bytes in, no error, no panic) and linear in the input.

mod base64;
mod best_fit;
mod case;
mod cmd_line;
mod comments;
mod css;
mod digest;
mod escape_seq;
mod hex;
mod html_entity;
mod js;
mod nulls;
mod parity;
mod path;
mod url;
mod utf8;
mod whitespace;

#[cfg(test)]
mod tests;

use crate::bytes::ByteMask;

/// What a transformation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The value stays as it is; nothing was written.
    Unchanged,
    /// The new value has been written.
    Changed,
}

/// A transformation function (`t:` in a rule). `t:none` is not one: it empties the list of those before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Transformation {
    /// `base64Decode`: decodes base64 up to the first character that is none.
    Base64Decode,
    /// `base64DecodeExt`: decodes base64 and leaves out what is none.
    Base64DecodeExt,
    /// `base64Encode`: encodes as base64.
    Base64Encode,
    /// `cmdLine`: undoes what shells ignore.
    CmdLine,
    /// `compressWhitespace`: makes one space of each run of whitespace.
    CompressWhitespace,
    /// `cssDecode`: decodes CSS escapes.
    CssDecode,
    /// `escapeSeqDecode`: decodes ANSI C escapes.
    EscapeSeqDecode,
    /// `hexDecode`: decodes pairs of hexadecimal digits.
    HexDecode,
    /// `hexEncode`: encodes as pairs of hexadecimal digits.
    HexEncode,
    /// `htmlEntityDecode`: decodes HTML character references.
    HtmlEntityDecode,
    /// `jsDecode`: decodes JavaScript escapes.
    JsDecode,
    /// `length`: the number of bytes, in decimal.
    Length,
    /// `lowercase`: ASCII letters to lower case.
    Lowercase,
    /// `md5`: the MD5 digest, raw.
    Md5,
    /// `normalizePath`: resolves `.`, `..` and repeated slashes.
    NormalizePath,
    /// `normalizePathWin`: the same, with backslashes as slashes.
    NormalizePathWin,
    /// `parityEven7bit`: the eighth bit becomes even parity.
    ParityEven7bit,
    /// `parityOdd7bit`: the eighth bit becomes odd parity.
    ParityOdd7bit,
    /// `parityZero7bit`: the eighth bit becomes zero.
    ParityZero7bit,
    /// `removeComments`: drops comments of C, HTML, SQL and shells.
    RemoveComments,
    /// `removeCommentsChar`: drops the marks of comments.
    RemoveCommentsChar,
    /// `removeNulls`: drops NUL bytes.
    RemoveNulls,
    /// `removeWhitespace`: drops whitespace.
    RemoveWhitespace,
    /// `replaceComments`: makes one space of each comment of C.
    ReplaceComments,
    /// `replaceNulls`: NUL bytes become spaces.
    ReplaceNulls,
    /// `sha1`: the SHA-1 digest, raw.
    Sha1,
    /// `sqlHexDecode`: decodes SQL's hexadecimal strings, `0x41`.
    SqlHexDecode,
    /// `trim`: drops whitespace at both ends.
    Trim,
    /// `trimLeft`: drops whitespace at the start.
    TrimLeft,
    /// `trimRight`: drops whitespace at the end.
    TrimRight,
    /// `uppercase`: ASCII letters to upper case.
    Uppercase,
    /// `urlDecode`: decodes `%HH` and `+`.
    UrlDecode,
    /// `urlDecodeUni`: decodes `%HH`, `%uHHHH` and `+`.
    UrlDecodeUni,
    /// `urlEncode`: encodes all but letters, digits and `*`.
    UrlEncode,
    /// `utf8toUnicode`: writes UTF-8 sequences as `%uHHHH`.
    Utf8ToUnicode,
}

use Transformation as T;

/// Every transformation with its name and the other names that it goes by.
const NAMES: &[(Transformation, &str, &[&str])] = &[
    (T::Base64Decode, "base64Decode", &[]),
    (T::Base64DecodeExt, "base64DecodeExt", &[]),
    (T::Base64Encode, "base64Encode", &[]),
    (T::CmdLine, "cmdLine", &[]),
    (T::CompressWhitespace, "compressWhitespace", &[]),
    (T::CssDecode, "cssDecode", &[]),
    (T::EscapeSeqDecode, "escapeSeqDecode", &[]),
    (T::HexDecode, "hexDecode", &[]),
    (T::HexEncode, "hexEncode", &[]),
    (T::HtmlEntityDecode, "htmlEntityDecode", &[]),
    (T::JsDecode, "jsDecode", &[]),
    (T::Length, "length", &[]),
    (T::Lowercase, "lowercase", &[]),
    (T::Md5, "md5", &[]),
    (T::NormalizePath, "normalizePath", &["normalisePath"]),
    (T::NormalizePathWin, "normalizePathWin", &["normalisePathWin"]),
    (T::ParityEven7bit, "parityEven7bit", &[]),
    (T::ParityOdd7bit, "parityOdd7bit", &[]),
    (T::ParityZero7bit, "parityZero7bit", &[]),
    (T::RemoveComments, "removeComments", &[]),
    (T::RemoveCommentsChar, "removeCommentsChar", &[]),
    (T::RemoveNulls, "removeNulls", &[]),
    (T::RemoveWhitespace, "removeWhitespace", &[]),
    (T::ReplaceComments, "replaceComments", &[]),
    (T::ReplaceNulls, "replaceNulls", &[]),
    (T::Sha1, "sha1", &[]),
    (T::SqlHexDecode, "sqlHexDecode", &[]),
    (T::Trim, "trim", &[]),
    (T::TrimLeft, "trimLeft", &[]),
    (T::TrimRight, "trimRight", &[]),
    (T::Uppercase, "uppercase", &[]),
    (T::UrlDecode, "urlDecode", &[]),
    (T::UrlDecodeUni, "urlDecodeUni", &[]),
    (T::UrlEncode, "urlEncode", &[]),
    (T::Utf8ToUnicode, "utf8toUnicode", &[]),
];

impl Transformation {
    /// The transformation of that name, in any case, by its name in ModSecurity v2 or v3.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, own, others)| {
                own.eq_ignore_ascii_case(name) || others.iter().any(|other| other.eq_ignore_ascii_case(name))
            })
            .map(|(it, _, _)| *it)
    }

    /// The name as the reference manual writes it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(it, _, _)| *it == self).map_or("", |(_, name, _)| name)
    }

    /// Every transformation, in the order of the names.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(it, _, _)| *it)
    }

    /// Appends the transformed value to `out`, which the caller hands over empty, and returns [`Outcome::Changed`]; or
    /// leaves `out` empty and returns [`Outcome::Unchanged`].
    pub fn apply(self, input: &[u8], out: &mut Vec<u8>) -> Outcome {
        match self {
            Self::Base64Decode => base64::decode(input, out),
            Self::Base64DecodeExt => base64::decode_ext(input, out),
            Self::Base64Encode => base64::encode(input, out),
            Self::CmdLine => cmd_line::apply(input, out),
            Self::CompressWhitespace => whitespace::compress(input, out),
            Self::CssDecode => css::decode(input, out),
            Self::EscapeSeqDecode => escape_seq::decode(input, out),
            Self::HexDecode => hex::decode(input, out),
            Self::HexEncode => hex::encode(input, out),
            Self::HtmlEntityDecode => html_entity::decode(input, out),
            Self::JsDecode => js::decode(input, out),
            Self::Length => digest::length(input, out),
            Self::Lowercase => case::lowercase(input, out),
            Self::Md5 => digest::md5(input, out),
            Self::NormalizePath => path::normalize(input, out),
            Self::NormalizePathWin => path::normalize_win(input, out),
            Self::ParityEven7bit => parity::even(input, out),
            Self::ParityOdd7bit => parity::odd(input, out),
            Self::ParityZero7bit => parity::zero(input, out),
            Self::RemoveComments => comments::remove(input, out),
            Self::RemoveCommentsChar => comments::remove_chars(input, out),
            Self::RemoveNulls => nulls::remove(input, out),
            Self::RemoveWhitespace => whitespace::remove(input, out),
            Self::ReplaceComments => comments::replace(input, out),
            Self::ReplaceNulls => nulls::replace(input, out),
            Self::Sha1 => digest::sha1(input, out),
            Self::SqlHexDecode => hex::sql_decode(input, out),
            Self::Trim => whitespace::trim(input, out),
            Self::TrimLeft => whitespace::trim_left(input, out),
            Self::TrimRight => whitespace::trim_right(input, out),
            Self::Uppercase => case::uppercase(input, out),
            Self::UrlDecode => url::decode(input, out),
            Self::UrlDecodeUni => url::decode_uni(input, out),
            Self::UrlEncode => url::encode(input, out),
            Self::Utf8ToUnicode => utf8::to_unicode(input, out),
        }
    }

    /// The fewest bytes that a value must have to become that many.
    pub fn shortest_input(self, output: usize) -> usize {
        match self {
            // Those make values longer.
            Self::Base64Encode
            | Self::HexEncode
            | Self::Length
            | Self::Md5
            | Self::Sha1
            | Self::UrlEncode
            | Self::Utf8ToUnicode => 0,
            Self::Base64Decode | Self::Base64DecodeExt => output.saturating_mul(8).div_ceil(6),
            Self::HexDecode => output.saturating_mul(2),
            _ => output,
        }
    }

    /// Whether the transformation cannot change a value that has no bytes but those of `mask`. Never true wrongly;
    /// false means only that it has to be run.
    pub fn is_noop_for(self, mask: ByteMask) -> bool {
        const SLASH: ByteMask = ByteMask::of_bytes(b"/");
        const STAR: ByteMask = ByteMask::of_bytes(b"*");
        const BACKSLASH: ByteMask = ByteMask::of_bytes(b"\\");
        const CMD_LINE: ByteMask =
            ByteMask::of_bytes(b"\"'\\^,;").union(ByteMask::WHITESPACE).union(ByteMask::UPPER);
        const URL_SAFE: ByteMask =
            ByteMask::LETTERS.union(ByteMask::UPPER).union(ByteMask::DIGIT).union(STAR);
        match self {
            Self::Length | Self::Md5 | Self::Sha1 => false,
            Self::Base64Decode
            | Self::Base64DecodeExt
            | Self::Base64Encode
            | Self::HexDecode
            | Self::HexEncode
            | Self::ParityEven7bit
            | Self::ParityOdd7bit => mask.is_empty(),
            Self::CmdLine => !mask.intersects(CMD_LINE),
            Self::CompressWhitespace | Self::Trim | Self::TrimLeft | Self::TrimRight => {
                !mask.intersects(ByteMask::WHITESPACE)
            }
            Self::CssDecode | Self::EscapeSeqDecode | Self::JsDecode => !mask.intersects(BACKSLASH),
            Self::HtmlEntityDecode => !mask.intersects(ByteMask::of_byte(b'&')),
            Self::Lowercase => !mask.intersects(ByteMask::UPPER),
            Self::NormalizePath => !mask.intersects(ByteMask::of_bytes(b"./")),
            Self::NormalizePathWin => !mask.intersects(ByteMask::of_bytes(b"./\\")),
            Self::ParityZero7bit | Self::Utf8ToUnicode => !mask.intersects(ByteMask::HIGH),
            Self::RemoveComments | Self::RemoveCommentsChar => {
                !mask.intersects(ByteMask::of_bytes(b"-#")) && !mask.contains(SLASH | STAR)
            }
            Self::RemoveNulls | Self::ReplaceNulls => !mask.intersects(ByteMask::CONTROL),
            Self::RemoveWhitespace => !mask.intersects(ByteMask::WHITESPACE | ByteMask::HIGH),
            Self::ReplaceComments => !mask.contains(SLASH | STAR),
            Self::SqlHexDecode => !mask.contains(ByteMask::of_bytes(b"0x")),
            Self::Uppercase => !mask.intersects(ByteMask::LETTERS),
            Self::UrlDecode | Self::UrlDecodeUni => !mask.intersects(ByteMask::of_bytes(b"%+")),
            Self::UrlEncode => (mask & !URL_SAFE).is_empty(),
        }
    }
}
