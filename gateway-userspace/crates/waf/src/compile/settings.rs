//! What the setting directives say, with defaults where none does.

use crate::lang::ast::{AuditFormat, AuditMode, EngineMode, LimitAction, Setting, XmlArguments};

/// The settings of a rule set. Sizes are bytes.
#[derive(Clone, Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Settings {
    /// `SecRuleEngine`, Off by default as in ModSecurity.
    pub engine: EngineMode,
    pub request_body_access: bool,
    pub response_body_access: bool,
    /// 128 MiB by default.
    pub request_body_limit: u64,
    /// 1 MiB by default; counts what is not in files.
    pub request_body_no_files_limit: u64,
    pub request_body_limit_action: LimitAction,
    /// 512 by default.
    pub json_depth_limit: u64,
    /// 512 KiB by default.
    pub response_body_limit: u64,
    pub response_body_limit_action: LimitAction,
    /// Lower case; `text/plain` and `text/html` by default.
    pub response_body_mime_types: Vec<String>,
    /// 1000 by default: further arguments set REQBODY_ERROR and are not parsed.
    pub arguments_limit: u64,
    /// Off by default: texts of XML bodies are in XML alone.
    pub xml_arguments: XmlArguments,
    pub argument_separator: u8,
    pub cookie_separator: u8,
    /// Seconds a persistent record lives after its last change; 3600 by default.
    pub collection_timeout: u64,
    /// In the order given, for the audit log.
    pub components: Vec<String>,
    pub server_signature: Option<String>,
    pub sensor_id: Option<String>,
    pub web_app_id: Option<String>,
    /// 100 files by default.
    pub upload_file_limit: u64,
    pub audit_engine: AuditMode,
    pub audit_log: Option<String>,
    pub audit_log2: Option<String>,
    /// `ABCFHZ` by default.
    pub audit_parts: String,
    /// The pattern as written.
    pub audit_relevant_status: Option<String>,
    pub audit_format: AuditFormat,
    pub audit_type: Option<String>,
    pub audit_storage_dir: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: EngineMode::Off,
            request_body_access: false,
            response_body_access: false,
            request_body_limit: 128 << 20,
            request_body_no_files_limit: 1 << 20,
            request_body_limit_action: LimitAction::Reject,
            json_depth_limit: 512,
            response_body_limit: 512 << 10,
            response_body_limit_action: LimitAction::Reject,
            response_body_mime_types: vec!["text/plain".to_owned(), "text/html".to_owned()],
            arguments_limit: 1000,
            xml_arguments: XmlArguments::Off,
            argument_separator: b'&',
            cookie_separator: b';',
            collection_timeout: 3600,
            components: Vec::new(),
            server_signature: None,
            sensor_id: None,
            web_app_id: None,
            upload_file_limit: 100,
            audit_engine: AuditMode::Off,
            audit_log: None,
            audit_log2: None,
            audit_parts: "ABCFHZ".to_owned(),
            audit_relevant_status: None,
            audit_format: AuditFormat::Native,
            audit_type: None,
            audit_storage_dir: None,
        }
    }
}

impl Settings {
    pub(crate) fn apply(&mut self, setting: &Setting) {
        use Setting as S;
        match setting.clone() {
            S::RuleEngine(mode) => self.engine = mode,
            S::RequestBodyAccess(on) => self.request_body_access = on,
            S::ResponseBodyAccess(on) => self.response_body_access = on,
            S::RequestBodyLimit(n) => self.request_body_limit = n,
            S::RequestBodyNoFilesLimit(n) => self.request_body_no_files_limit = n,
            S::RequestBodyLimitAction(action) => self.request_body_limit_action = action,
            S::RequestBodyJsonDepthLimit(n) => self.json_depth_limit = n,
            S::ResponseBodyLimit(n) => self.response_body_limit = n,
            S::ResponseBodyLimitAction(action) => self.response_body_limit_action = action,
            S::ResponseBodyMimeType(types) => self.response_body_mime_types = types,
            S::ResponseBodyMimeTypesClear => self.response_body_mime_types.clear(),
            S::ParseXmlIntoArgs(into) => self.xml_arguments = into,
            S::ArgumentsLimit(n) => self.arguments_limit = n,
            S::ArgumentSeparator(byte) => self.argument_separator = byte,
            S::CookieSeparator(byte) => self.cookie_separator = byte,
            S::CollectionTimeout(n) => self.collection_timeout = n,
            S::ComponentSignature(text) => self.components.push(text),
            S::ServerSignature(text) => self.server_signature = Some(text),
            S::SensorId(text) => self.sensor_id = Some(text),
            S::WebAppId(text) => self.web_app_id = Some(text),
            S::UploadFileLimit(n) => self.upload_file_limit = n,
            S::AuditEngine(mode) => self.audit_engine = mode,
            S::AuditLog(text) => self.audit_log = Some(text),
            S::AuditLog2(text) => self.audit_log2 = Some(text),
            S::AuditLogParts(text) => self.audit_parts = text,
            S::AuditLogRelevantStatus(text) => self.audit_relevant_status = Some(text),
            S::AuditLogFormat(format) => self.audit_format = format,
            S::AuditLogType(text) => self.audit_type = Some(text),
            S::AuditLogStorageDir(text) => self.audit_storage_dir = Some(text),
        }
    }
}
