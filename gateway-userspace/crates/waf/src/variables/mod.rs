//! The variables of SecLang: names and kinds.

pub(crate) mod arena;
pub(crate) mod fold;
pub(crate) mod names;
pub(crate) mod store;
pub(crate) mod tx;

pub(crate) use names::nearest;

/// A variable of the ModSecurity v3 reference manual; [`Variable::name`] is how rules write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Variable {
    ArgsCombinedSize,
    AuthType,
    Duration,
    FilesCombinedSize,
    FullRequest,
    FullRequestLength,
    HighestSeverity,
    InboundDataError,
    MatchedVar,
    MatchedVarName,
    ModsecBuild,
    MscPcreLimitsExceeded,
    MultipartBoundaryQuoted,
    MultipartBoundaryWhitespace,
    MultipartCrlfLfLines,
    MultipartDataAfter,
    MultipartDataBefore,
    MultipartFileLimitExceeded,
    MultipartHeaderFolding,
    MultipartInvalidHeaderFolding,
    MultipartInvalidPart,
    MultipartInvalidQuoting,
    MultipartLfLine,
    MultipartMissingSemicolon,
    MultipartStrictError,
    MultipartUnmatchedBoundary,
    OutboundDataError,
    PathInfo,
    QueryString,
    RemoteAddr,
    RemoteHost,
    RemotePort,
    RemoteUser,
    ReqbodyError,
    ReqbodyErrorMsg,
    ReqbodyProcessor,
    ReqbodyProcessorError,
    ReqbodyProcessorErrorMsg,
    RequestBasename,
    RequestBody,
    RequestBodyLength,
    RequestFilename,
    RequestLine,
    RequestMethod,
    RequestProtocol,
    RequestUri,
    RequestUriRaw,
    ResponseBody,
    ResponseContentLength,
    ResponseContentType,
    ResponseProtocol,
    ResponseStatus,
    ServerAddr,
    ServerName,
    ServerPort,
    Sessionid,
    StatusLine,
    Time,
    TimeDay,
    TimeEpoch,
    TimeHour,
    TimeMin,
    TimeMon,
    TimeSec,
    TimeWday,
    TimeYear,
    UniqueId,
    UrlencodedError,
    UseragentIp,
    Userid,
    Webappid,
    WebserverErrorLog,
    // Collections from here on.
    Args,
    ArgsGet,
    ArgsGetNames,
    ArgsNames,
    ArgsPost,
    ArgsPostNames,
    Env,
    Files,
    FilesNames,
    FilesSizes,
    FilesTmpnames,
    FilesTmpContent,
    Geo,
    Global,
    Ip,
    MatchedVars,
    MatchedVarsNames,
    MultipartFilename,
    MultipartName,
    MultipartPartHeaders,
    RequestCookies,
    RequestCookiesNames,
    RequestHeaders,
    RequestHeadersNames,
    Resource,
    ResponseHeaders,
    ResponseHeadersNames,
    Rule,
    Session,
    Tx,
    User,
    Xml,
}

/// How many variables are single values; the numbers of those come first.
pub(crate) const SCALARS: usize = 72;

const NAMES: [(&str, Variable); 104] = [
    ("ARGS_COMBINED_SIZE", Variable::ArgsCombinedSize),
    ("AUTH_TYPE", Variable::AuthType),
    ("DURATION", Variable::Duration),
    ("FILES_COMBINED_SIZE", Variable::FilesCombinedSize),
    ("FULL_REQUEST", Variable::FullRequest),
    ("FULL_REQUEST_LENGTH", Variable::FullRequestLength),
    ("HIGHEST_SEVERITY", Variable::HighestSeverity),
    ("INBOUND_DATA_ERROR", Variable::InboundDataError),
    ("MATCHED_VAR", Variable::MatchedVar),
    ("MATCHED_VAR_NAME", Variable::MatchedVarName),
    ("MODSEC_BUILD", Variable::ModsecBuild),
    ("MSC_PCRE_LIMITS_EXCEEDED", Variable::MscPcreLimitsExceeded),
    ("MULTIPART_BOUNDARY_QUOTED", Variable::MultipartBoundaryQuoted),
    ("MULTIPART_BOUNDARY_WHITESPACE", Variable::MultipartBoundaryWhitespace),
    ("MULTIPART_CRLF_LF_LINES", Variable::MultipartCrlfLfLines),
    ("MULTIPART_DATA_AFTER", Variable::MultipartDataAfter),
    ("MULTIPART_DATA_BEFORE", Variable::MultipartDataBefore),
    ("MULTIPART_FILE_LIMIT_EXCEEDED", Variable::MultipartFileLimitExceeded),
    ("MULTIPART_HEADER_FOLDING", Variable::MultipartHeaderFolding),
    ("MULTIPART_INVALID_HEADER_FOLDING", Variable::MultipartInvalidHeaderFolding),
    ("MULTIPART_INVALID_PART", Variable::MultipartInvalidPart),
    ("MULTIPART_INVALID_QUOTING", Variable::MultipartInvalidQuoting),
    ("MULTIPART_LF_LINE", Variable::MultipartLfLine),
    ("MULTIPART_MISSING_SEMICOLON", Variable::MultipartMissingSemicolon),
    ("MULTIPART_STRICT_ERROR", Variable::MultipartStrictError),
    ("MULTIPART_UNMATCHED_BOUNDARY", Variable::MultipartUnmatchedBoundary),
    ("OUTBOUND_DATA_ERROR", Variable::OutboundDataError),
    ("PATH_INFO", Variable::PathInfo),
    ("QUERY_STRING", Variable::QueryString),
    ("REMOTE_ADDR", Variable::RemoteAddr),
    ("REMOTE_HOST", Variable::RemoteHost),
    ("REMOTE_PORT", Variable::RemotePort),
    ("REMOTE_USER", Variable::RemoteUser),
    ("REQBODY_ERROR", Variable::ReqbodyError),
    ("REQBODY_ERROR_MSG", Variable::ReqbodyErrorMsg),
    ("REQBODY_PROCESSOR", Variable::ReqbodyProcessor),
    ("REQBODY_PROCESSOR_ERROR", Variable::ReqbodyProcessorError),
    ("REQBODY_PROCESSOR_ERROR_MSG", Variable::ReqbodyProcessorErrorMsg),
    ("REQUEST_BASENAME", Variable::RequestBasename),
    ("REQUEST_BODY", Variable::RequestBody),
    ("REQUEST_BODY_LENGTH", Variable::RequestBodyLength),
    ("REQUEST_FILENAME", Variable::RequestFilename),
    ("REQUEST_LINE", Variable::RequestLine),
    ("REQUEST_METHOD", Variable::RequestMethod),
    ("REQUEST_PROTOCOL", Variable::RequestProtocol),
    ("REQUEST_URI", Variable::RequestUri),
    ("REQUEST_URI_RAW", Variable::RequestUriRaw),
    ("RESPONSE_BODY", Variable::ResponseBody),
    ("RESPONSE_CONTENT_LENGTH", Variable::ResponseContentLength),
    ("RESPONSE_CONTENT_TYPE", Variable::ResponseContentType),
    ("RESPONSE_PROTOCOL", Variable::ResponseProtocol),
    ("RESPONSE_STATUS", Variable::ResponseStatus),
    ("SERVER_ADDR", Variable::ServerAddr),
    ("SERVER_NAME", Variable::ServerName),
    ("SERVER_PORT", Variable::ServerPort),
    ("SESSIONID", Variable::Sessionid),
    ("STATUS_LINE", Variable::StatusLine),
    ("TIME", Variable::Time),
    ("TIME_DAY", Variable::TimeDay),
    ("TIME_EPOCH", Variable::TimeEpoch),
    ("TIME_HOUR", Variable::TimeHour),
    ("TIME_MIN", Variable::TimeMin),
    ("TIME_MON", Variable::TimeMon),
    ("TIME_SEC", Variable::TimeSec),
    ("TIME_WDAY", Variable::TimeWday),
    ("TIME_YEAR", Variable::TimeYear),
    ("UNIQUE_ID", Variable::UniqueId),
    ("URLENCODED_ERROR", Variable::UrlencodedError),
    ("USERAGENT_IP", Variable::UseragentIp),
    ("USERID", Variable::Userid),
    ("WEBAPPID", Variable::Webappid),
    ("WEBSERVER_ERROR_LOG", Variable::WebserverErrorLog),
    ("ARGS", Variable::Args),
    ("ARGS_GET", Variable::ArgsGet),
    ("ARGS_GET_NAMES", Variable::ArgsGetNames),
    ("ARGS_NAMES", Variable::ArgsNames),
    ("ARGS_POST", Variable::ArgsPost),
    ("ARGS_POST_NAMES", Variable::ArgsPostNames),
    ("ENV", Variable::Env),
    ("FILES", Variable::Files),
    ("FILES_NAMES", Variable::FilesNames),
    ("FILES_SIZES", Variable::FilesSizes),
    ("FILES_TMPNAMES", Variable::FilesTmpnames),
    ("FILES_TMP_CONTENT", Variable::FilesTmpContent),
    ("GEO", Variable::Geo),
    ("GLOBAL", Variable::Global),
    ("IP", Variable::Ip),
    ("MATCHED_VARS", Variable::MatchedVars),
    ("MATCHED_VARS_NAMES", Variable::MatchedVarsNames),
    ("MULTIPART_FILENAME", Variable::MultipartFilename),
    ("MULTIPART_NAME", Variable::MultipartName),
    ("MULTIPART_PART_HEADERS", Variable::MultipartPartHeaders),
    ("REQUEST_COOKIES", Variable::RequestCookies),
    ("REQUEST_COOKIES_NAMES", Variable::RequestCookiesNames),
    ("REQUEST_HEADERS", Variable::RequestHeaders),
    ("REQUEST_HEADERS_NAMES", Variable::RequestHeadersNames),
    ("RESOURCE", Variable::Resource),
    ("RESPONSE_HEADERS", Variable::ResponseHeaders),
    ("RESPONSE_HEADERS_NAMES", Variable::ResponseHeadersNames),
    ("RULE", Variable::Rule),
    ("SESSION", Variable::Session),
    ("TX", Variable::Tx),
    ("USER", Variable::User),
    ("XML", Variable::Xml),
];

/// Other names: of earlier versions and of other engines.
const ALIASES: [(&str, Variable); 4] = [
    ("STREAM_INPUT_BODY", Variable::RequestBody),
    ("STREAM_OUTPUT_BODY", Variable::ResponseBody),
    ("SCRIPT_FILENAME", Variable::RequestFilename),
    ("SCRIPT_BASENAME", Variable::RequestBasename),
];

impl Variable {
    /// The variable of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().chain(&ALIASES).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
    }

    /// As rules and logs write it.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].0
    }

    /// Whether it holds named values.
    pub fn is_collection(self) -> bool {
        self as usize >= SCALARS
    }

    /// The name of a variable that a misspelt one may have meant.
    pub fn similar(name: &str) -> Option<&'static str> {
        nearest(name, NAMES.iter().map(|(n, _)| *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_where_their_numbers_say() {
        for (index, (name, variable)) in NAMES.iter().enumerate() {
            assert_eq!(*variable as usize, index, "{name}");
            assert_eq!(Variable::from_name(&name.to_ascii_lowercase()), Some(*variable));
            assert_eq!(variable.name(), *name);
        }
        assert!(NAMES.len() <= 128, "transactions keep a bit for each");
        assert!(!Variable::WebserverErrorLog.is_collection());
        assert!(Variable::Args.is_collection());
    }
}
