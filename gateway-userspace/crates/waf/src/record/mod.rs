//! Records of what matched, in the forms that ModSecurity's users know: the error-log line and the audit log.

pub mod audit;
pub mod error_log;
mod mask;
mod time;

#[cfg(test)]
mod tests;
