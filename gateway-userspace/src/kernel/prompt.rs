//! A thread that others wait for asks the scheduler to be let in soon.
#![allow(unsafe_code)]

use std::io;

/// The shortest slice that the scheduler gives, in nanoseconds.
const SLICE_NS: u64 = 100_000;
const SCHED_OTHER: u32 = 0;
const SCHED_BATCH: u32 = 3;

/// `struct sched_attr`, version 0.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for short slices for the calling thread, with which it is let in at once when it wakes, where it would wait for
/// the end of another's slice (up to 3 ms on a busy machine). Its share of the processor stays what it is. Needs no
/// privilege. Linux knows this since 6.12 (sched(7)) and ignores it before; threads of other policies are left alone.
///
/// # Errors
/// As the system says: a sandbox may refuse the call.
pub fn prompt_thread() -> io::Result<()> {
    let size = size_of::<Attributes>() as u32;
    let mut attributes = Attributes { size, ..Attributes::default() };
    // SAFETY: the record is laid out as the kernel's and as long as told; it is written within that length.
    let got =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, std::ptr::from_mut(&mut attributes), size, 0) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    if attributes.policy != SCHED_OTHER && attributes.policy != SCHED_BATCH {
        return Ok(());
    }
    attributes.size = size;
    attributes.runtime = SLICE_NS;
    // SAFETY: as above; the record is only read.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&attributes), 0) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_ask_as_often_as_it_likes() {
        std::thread::spawn(|| {
            for _ in 0..2 {
                prompt_thread().expect("the system takes it");
            }
        })
        .join()
        .expect("the thread ends");
    }
}
