//! XDP programs of the gateway.
#![no_std]
#![no_main]
