//! The system calls that aya does not offer, or not in the form needed here: links by file descriptor without a
//! netlink fallback, test runs, and the BPF file system.
#![allow(clippy::cast_ptr_alignment, reason = "sockaddr is declared with a lesser alignment than it has")]
#![allow(unsafe_code)]

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::Duration,
};

const BPF_MAP_CREATE: i64 = 0;
const BPF_OBJ_PIN: i64 = 6;
const BPF_OBJ_GET: i64 = 7;
const BPF_PROG_TEST_RUN: i64 = 10;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_LINK_CREATE: i64 = 28;
const BPF_LINK_UPDATE: i64 = 29;
const BPF_LINK_DETACH: i64 = 34;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_XDP: u32 = 37;
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Native mode.
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// Generic mode.
pub const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
/// Test-run flag: hand the verdicts to the network stack.
pub const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// Calls bpf(2) with an attribute of plain data.
fn bpf<T>(command: i64, attribute: &mut T) -> io::Result<i64> {
    // SAFETY: `attribute` is a plain `repr(C)` record laid out as the kernel's attribute for `command`; the kernel
    // reads and writes within the size given.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor to us and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

#[repr(C)]
#[derive(Default)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins an object in a BPF file system.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attribute = Pin { path: path.as_ptr() as u64, fd: fd.as_raw_fd() as u32, flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attribute).map(drop)
}

/// Opens a pinned object.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attribute = Pin { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    bpf(BPF_OBJ_GET, &mut attribute).map(owned)
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

/// Makes an array of one element of `bytes` bytes that can be mapped. Of the name 15 bytes count.
pub fn create_element(name: &str, bytes: u32) -> io::Result<OwnedFd> {
    let mut attribute = MapCreate {
        kind: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: bytes,
        entries: 1,
        flags: BPF_F_MMAPABLE,
        ..MapCreate::default()
    };
    for (to, from) in attribute.name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bpf(BPF_MAP_CREATE, &mut attribute).map(owned)
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 4],
}

/// Attaches an XDP program to an interface.
pub fn link_create(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attribute = LinkCreate {
        program: program.as_raw_fd() as u32,
        interface,
        attach_type: BPF_XDP,
        flags,
        rest: [0; 4],
    };
    bpf(BPF_LINK_CREATE, &mut attribute).map(owned)
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Replaces the program behind a link, between two packets.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkUpdate {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attribute).map(drop)
}

#[repr(C)]
struct LinkDetach {
    link: u32,
}

/// Takes the program of a link off its interface, at once; the link stays as a husk.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut LinkDetach { link: link.as_raw_fd() as u32 }).map(drop)
}

/// What the kernel says of a link: `struct bpf_link_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkInfo {
    kind: u32,
    id: u32,
    /// Id of the program.
    pub program: u32,
    padding: u32,
    /// Interface, zero once the interface is gone.
    pub interface: u32,
    rest: [u32; 11],
}

#[repr(C)]
#[derive(Default)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

/// Asks about a link.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attribute = Info {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attribute)?;
    Ok(info)
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// What a test run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRunResult {
    /// The program's verdict on the last run.
    pub action: u32,
    /// Mean time of a run; zero with live frames.
    pub each: Duration,
    /// The packet after the program.
    pub data: Vec<u8>,
}

/// Runs an XDP program on a packet `repeat` times (`flags` 0), or sends the packet that often through the program
/// and on into the stack of an interface ([`BPF_F_TEST_XDP_LIVE_FRAMES`], with the interface as context).
///
/// # Errors
/// `EINVAL` for packets under 14 bytes, or more than a page.
pub fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    repeat: u32,
    live_on: Option<u32>,
) -> io::Result<TestRunResult> {
    let mut out = vec![0u8; if live_on.is_some() { 0 } else { packet.len() + 256 }];
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let mut context = [0, packet.len() as u32, 0, live_on.unwrap_or(0), 0, 0];
    let mut attribute = TestRun {
        program: program.as_raw_fd() as u32,
        size_in: packet.len() as u32,
        size_out: out.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_out: if live_on.is_some() { 0 } else { out.as_mut_ptr() as u64 },
        repeat,
        ..TestRun::default()
    };
    if live_on.is_some() {
        attribute.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
        attribute.context_in = context.as_mut_ptr() as u64;
        attribute.context_size_in = size_of_val(&context) as u32;
        attribute.batch_size = 64;
    }
    bpf(BPF_PROG_TEST_RUN, &mut attribute)?;
    out.truncate(attribute.size_out as usize);
    Ok(TestRunResult {
        action: attribute.result,
        each: Duration::from_nanos(u64::from(attribute.duration)),
        data: out,
    })
}

/// True when the path is on a BPF file system.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    // SAFETY: all zeros is a valid value of this plain record.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string and `stat` outlives the call.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat.f_type as i64 == BPF_FS_MAGIC)
}

/// Mounts a BPF file system.
pub fn mount_bpffs(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: all pointers are C strings that outlive the call.
    let result = unsafe {
        libc::mount(c"bpf".as_ptr(), path.as_ptr(), c"bpf".as_ptr(), flags, c"mode=0700".as_ptr().cast())
    };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the exclusive lock of a folder for as long as the descriptor lives; `None` when another process has it.
pub fn lock_folder(path: &Path) -> io::Result<Option<OwnedFd>> {
    let folder = std::fs::File::open(path)?;
    // SAFETY: the descriptor is open.
    if unsafe { libc::flock(folder.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(Some(folder.into()));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EWOULDBLOCK) { Ok(None) } else { Err(error) }
}

/// The index of an interface.
pub fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// The addresses of this host's interfaces.
pub fn own_addresses() -> io::Result<Vec<std::net::IpAddr>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs fills the pointer or fails.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is an element of the list, which lives until freeifaddrs below.
        let element = unsafe { &*next };
        next = element.ifa_next;
        if element.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: the address has the layout that its family says, and getifaddrs(3) aligns it for any family.
        unsafe {
            match i32::from((*element.ifa_addr).sa_family) {
                libc::AF_INET => {
                    let v4 = element.ifa_addr.cast::<u8>().cast::<libc::sockaddr_in>().read_unaligned();
                    addresses.push(std::net::Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr)).into());
                }
                libc::AF_INET6 => {
                    let v6 = element.ifa_addr.cast::<u8>().cast::<libc::sockaddr_in6>().read_unaligned();
                    addresses.push(std::net::Ipv6Addr::from(v6.sin6_addr.s6_addr).into());
                }
                _ => {}
            }
        }
    }
    // SAFETY: the list came from getifaddrs and nothing points into it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// CLOCK_MONOTONIC, the clock that jiffies follow.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The kernel's tick: the resolution of its coarse clocks.
pub fn tick() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    if unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// CPUs that can exist, which is how many records a per-CPU array needs.
pub fn possible_cpus() -> io::Result<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<u32>().ok());
    last.map(|n| n + 1).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Random words from the kernel.
pub fn random_words<const N: usize>() -> io::Result<[u64; N]> {
    let mut words = [0u64; N];
    let bytes = size_of_val(&words);
    // SAFETY: the buffer has `bytes` bytes. Up to 256 bytes come whole.
    let got = unsafe { libc::getrandom(words.as_mut_ptr().cast(), bytes, 0) };
    if got == bytes as isize { Ok(words) } else { Err(io::Error::last_os_error()) }
}

/// A file name that an interface name maps to in the pin folder. Dots are not allowed in names on a BPF file system.
pub fn pin_name(interface: &str) -> String {
    let mut name = String::new();
    for byte in OsStr::new(interface).as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(*byte as char),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name
}
