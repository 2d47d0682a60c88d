//! What the kernel programs and the daemon share.
#![no_std]
