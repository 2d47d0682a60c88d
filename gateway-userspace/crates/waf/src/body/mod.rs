//! Body processors: bytes in, names and values out. Pure, linear, bounded.

pub mod cookies;
pub mod json;
pub mod multipart;
pub mod urlencoded;
pub mod xml;
