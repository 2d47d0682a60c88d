//! Records of what matched, in the forms that ModSecurity's users know: the error-log line and the audit log.

pub mod audit;
mod concurrent;
pub mod error_log;
mod lines;
mod mask;
mod time;

pub use lines::lines;

#[cfg(test)]
mod tests;
