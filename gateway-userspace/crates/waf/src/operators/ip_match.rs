//! `@ipMatch` and `@ipMatchFromFile`: addresses and networks in CIDR form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::pm::file_names;
use super::{CompileContext, OperatorError};

/// Most networks of one operator.
pub const MAX_NETWORKS: usize = 1_000_000;

/// A set of addresses: sorted ranges without overlap, looked up by bisection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl IpSet {
    /// The set of the networks given, each an address or `address/prefix`.
    ///
    /// # Errors
    /// [`OperatorError::Argument`] names the first that is neither.
    pub fn new<'a>(
        name: &'static str,
        networks: impl Iterator<Item = &'a str>,
    ) -> Result<Self, OperatorError> {
        let mut set = Self::default();
        for (count, network) in networks.enumerate() {
            if count == MAX_NETWORKS {
                return Err(OperatorError::TooMany { name, what: "networks", limit: MAX_NETWORKS });
            }
            if !set.add(network) {
                let reason = format!(
                    "{network:?} is neither an IP address nor a network such as 10.0.0.0/8 or 2001:db8::/32"
                );
                return Err(OperatorError::Argument { name, reason });
            }
        }
        merge(&mut set.v4, |end| end.checked_add(1));
        merge(&mut set.v6, |end| end.checked_add(1));
        Ok(set)
    }

    fn add(&mut self, network: &str) -> bool {
        let (address, prefix) = match network.split_once('/') {
            Some((address, prefix)) => match prefix.parse::<u32>() {
                Ok(prefix) => (address, Some(prefix)),
                Err(_) => return false,
            },
            None => (network, None),
        };
        match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                let prefix = prefix.unwrap_or(32);
                if prefix > 32 {
                    return false;
                }
                let host = u32::MAX.checked_shr(prefix).unwrap_or(0);
                let start = address.to_bits() & !host;
                self.v4.push((start, start | host));
            }
            Ok(IpAddr::V6(address)) => {
                let prefix = prefix.unwrap_or(128);
                if prefix > 128 {
                    return false;
                }
                let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
                let start = address.to_bits() & !host;
                self.v6.push((start, start | host));
            }
            Err(_) => return false,
        }
        true
    }

    /// Whether the address is in the set. An IPv4 address in its IPv6 form (`::ffff:a.b.c.d`) is also looked up as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.contains_v4(address),
            IpAddr::V6(address) => {
                has(&self.v6, address.to_bits())
                    || Ipv6Addr::to_ipv4_mapped(&address).is_some_and(|address| self.contains_v4(address))
            }
        }
    }

    fn contains_v4(&self, address: Ipv4Addr) -> bool {
        has(&self.v4, address.to_bits())
    }
}

fn has<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= address);
    after > 0 && ranges.get(after - 1).is_some_and(|(_, end)| address <= *end)
}

fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, earlier| {
        let touches = next(earlier.1).is_none_or(|after| later.0 <= after);
        if touches {
            earlier.1 = earlier.1.max(later.1);
        }
        touches
    });
    ranges.shrink_to_fit();
}

/// The networks of an `@ipMatch` argument: separated by commas, blanks or line ends.
pub(super) fn set_of_argument(name: &'static str, argument: &str) -> Result<IpSet, OperatorError> {
    let is_separator = |letter: char| letter == ',' || letter.is_ascii_whitespace();
    let mut networks = argument.split(is_separator).filter(|network| !network.is_empty()).peekable();
    if networks.peek().is_none() {
        return Err(OperatorError::Argument { name, reason: "there is no address".to_owned() });
    }
    IpSet::new(name, networks)
}

/// The networks of the files that an `@ipMatchFromFile` argument names: one or several a line; `#` begins a comment.
pub(super) fn set_of_files(
    name: &'static str,
    argument: &str,
    context: &CompileContext<'_>,
) -> Result<IpSet, OperatorError> {
    let mut text = String::new();
    for path in file_names(name, argument)? {
        let content = context.files.read(&context.resolve(path))?;
        for line in String::from_utf8_lossy(&content).lines() {
            text.push_str(line.split('#').next().unwrap_or_default());
            text.push('\n');
        }
    }
    if text.trim().is_empty() { Ok(IpSet::default()) } else { set_of_argument(name, &text) }
}

/// The address that a value is, if it is one.
pub(super) fn address_of(value: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    #[test]
    fn networks() {
        for (argument, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3/8", "10.0.0.0", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("1.2.3.4, 2001:db8::/32", "2001:db8:ffff::", true),
            ("1.2.3.4,1.2.3.5", "1.2.3.5", true),
            ("1.2.3.4,1.2.3.6", "1.2.3.5", false),
            ("1.2.3.4", "::ffff:1.2.3.4", true),
            ("1.2.3.0/24,1.2.4.0/24", "1.2.4.255", true),
            ("1.2.3.4", "1.2.3.4 ", false),
        ] {
            let set = set_of_argument("ipMatch", argument).expect("compiles");
            assert_eq!(
                address_of(address.as_bytes()).is_some_and(|it| set.contains(it)),
                expected,
                "{address} in {argument}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for argument in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/x", "example.com", "010.0.0.1"] {
            assert!(
                matches!(set_of_argument("ipMatch", argument), Err(OperatorError::Argument { .. })),
                "{argument}"
            );
        }
    }

    #[test]
    fn files_have_comments() {
        let files = MemorySource::new()
            .with("nets", "# a\r\n10.0.0.0/8 # b\r\n\r\n::1\n")
            .with("none", "# nothing\n");
        let context = CompileContext { files: &files, directory: "" };
        let set = set_of_files("ipMatchFromFile", "nets", &context).expect("compiles");
        assert!(set.contains(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert!(set.contains(IpAddr::V4(Ipv4Addr::new(10, 1, 1, 1))));
        assert_eq!(set_of_files("ipMatchFromFile", "none", &context), Ok(IpSet::default()));
    }
}
