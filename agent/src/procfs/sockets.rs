//! Which ports something listens on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which table a socket stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `tcp` and `tcp6`.
    Tcp,
    /// `udp` and `udp6`.
    Udp,
}

impl Protocol {
    /// As in the inventory.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The kernel's state of a socket that takes in from anybody: LISTEN, and for UDP unconnected.
    fn open_state(self) -> &'static str {
        match self {
            Self::Tcp => "0A",
            Self::Udp => "07",
        }
    }
}

/// From `/proc/net/{tcp,tcp6,udp,udp6}`: local address and port of every socket that listens.
pub fn listening(text: &str, protocol: Protocol) -> impl Iterator<Item = (IpAddr, u16)> {
    text.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let (address, port) = words.nth(1)?.split_once(':')?;
        if words.nth(1)? != protocol.open_state() {
            return None;
        }
        let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)?;
        Some((ip(address)?, port))
    })
}

/// The kernel prints an address as 32-bit words in the machine's own byte order.
fn ip(text: &str) -> Option<IpAddr> {
    let mut bytes = [0_u8; 16];
    if !text.is_ascii() || (text.len() != 8 && text.len() != 32) {
        return None;
    }
    for (word, slot) in text.as_bytes().chunks(8).zip(bytes.chunks_mut(4)) {
        let value = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
        slot.copy_from_slice(&value.to_ne_bytes());
    }
    if text.len() == 8 {
        let [a, b, c, d, ..] = bytes;
        return Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    }
    Some(IpAddr::V6(Ipv6Addr::from(bytes)))
}
