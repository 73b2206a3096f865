//! From where a request comes: the connection's other end, or, when that is a proxy of ours, whom the proxy names.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// A chain that is longer than this is not looked at further.
const LONGEST_CHAIN: usize = 32;

/// The networks of proxies whose word counts.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The caller's address.
    pub address: IpAddr,
    /// Whether the caller speaks TLS to the proxy.
    pub secure: bool,
}

impl TrustedProxies {
    /// Networks such as `10.0.0.0/8`, or addresses, separated by commas.
    ///
    /// # Errors
    /// With the one that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let networks = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let network = |part: &str| part.parse().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
        networks.map(|part| network(part).map_err(|_| part.to_owned())).collect::<Result<_, _>>().map(Self)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Who calls, when the connection comes from `peer`. Of a chain the last address counts that is no proxy of ours:
    /// what stands before it may be invented. When `Forwarded` and `X-Forwarded-For` name different callers, one of
    /// them was sent by the caller; the proxy's own address stands for it then.
    pub fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> Origin {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return Origin { address: peer, secure: false };
        }
        let listed = headers.contains_key(X_FORWARDED_FOR).then(|| self.caller(peer, &x_forwarded_for(headers)));
        let forwarded = forwarded(headers);
        let named =
            headers.contains_key(header::FORWARDED).then(|| self.caller(peer, &forwarded_values(&forwarded, "for")));
        let address = match (listed, named) {
            (Some(one), Some(other)) if one != other => peer,
            (Some(caller), _) | (None, Some(caller)) => caller,
            (None, None) => peer,
        };
        let told = headers.get_all(X_FORWARDED_PROTO).iter().next_back().and_then(|value| value.to_str().ok());
        let scheme = told.map(|value| last_of(value).to_owned());
        let scheme =
            scheme.or_else(|| forwarded_values(&forwarded, "proto").pop().map(|value| value.trim().to_owned()));
        Origin { address, secure: scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) }
    }

    fn caller(&self, peer: IpAddr, chain: &[String]) -> IpAddr {
        let mut caller = peer;
        for node in chain.iter().rev().take(LONGEST_CHAIN) {
            // A proxy that hides whom it speaks for speaks for itself.
            let Some(address) = address(node) else { break };
            caller = address.to_canonical();
            if !self.trusts(caller) {
                break;
            }
        }
        caller
    }
}

fn last_of(value: &str) -> &str {
    value.rsplit(',').next().unwrap_or_default().trim()
}

fn x_forwarded_for(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(X_FORWARDED_FOR).iter();
    // What is no text is an address that cannot be read, not nothing.
    let values = values.map(|value| value.to_str().unwrap_or("?"));
    values.flat_map(|value| value.split(',')).map(|node| node.trim().to_owned()).collect()
}

/// The elements of `Forwarded` (RFC 7239). A quoted comma or semicolon is no address's part and spoils its element only.
fn forwarded(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::FORWARDED).iter().map(|value| value.to_str().unwrap_or("?"));
    values.flat_map(|value| value.split(',')).map(str::to_owned).collect()
}

fn forwarded_values(elements: &[String], name: &str) -> Vec<String> {
    let value = |element: &String| {
        let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let found = pairs.into_iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
    };
    elements.iter().map(value).collect()
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
    bare.parse().ok().or_else(|| node.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn origin(trusted: &str, peer: &str, headers: &[(HeaderName, &'static str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_static(value));
        }
        let origin = TrustedProxies::parse(trusted).unwrap().origin(peer.parse().unwrap(), &map);
        format!("{}{}", origin.address, if origin.secure { " secure" } else { "" })
    }

    #[test]
    fn only_the_word_of_a_trusted_proxy_counts_and_of_a_chain_the_last_stranger() {
        let chain = [(X_FORWARDED_FOR, "203.0.113.9, 198.51.100.7, 10.0.0.2"), (X_FORWARDED_PROTO, "https")];
        assert_eq!(origin("", "10.0.0.1", &chain), "10.0.0.1");
        assert_eq!(origin("10.0.0.0/8", "192.0.2.1", &chain), "192.0.2.1");
        assert_eq!(origin("10.0.0.0/8", "10.0.0.1", &chain), "198.51.100.7 secure");
        assert_eq!(origin("10.0.0.1", "::ffff:10.0.0.1", &chain), "10.0.0.2 secure");
        assert_eq!(origin("10.0.0.0/8, 198.51.100.0/24, 203.0.113.9", "10.0.0.1", &chain), "203.0.113.9 secure");
        assert_eq!(origin("10.0.0.0/8", "10.0.0.1", &[]), "10.0.0.1");
        let lines = [(X_FORWARDED_FOR, "203.0.113.9"), (X_FORWARDED_FOR, "198.51.100.7:1234")];
        assert_eq!(origin("10.0.0.0/8", "10.0.0.1", &lines), "198.51.100.7");
        let broken = [(X_FORWARDED_FOR, "203.0.113.9, no address, 10.0.0.3")];
        assert_eq!(origin("10.0.0.0/8", "10.0.0.1", &broken), "10.0.0.3");
    }

    #[test]
    fn forwarded_is_read_too_and_a_contradiction_helps_nobody() {
        let one = [(header::FORWARDED, "for=203.0.113.9, for=\"[2001:db8::5]:80\";proto=https")];
        assert_eq!(origin("10.0.0.0/8", "10.0.0.1", &one), "2001:db8::5 secure");
        let hidden = [(header::FORWARDED, "for=203.0.113.9, for=_hidden")];
        assert_eq!(origin("10.0.0.0/8", "10.0.0.1", &hidden), "10.0.0.1");
        let both = [(header::FORWARDED, "for=203.0.113.9"), (X_FORWARDED_FOR, "198.51.100.7")];
        assert_eq!(origin("10.0.0.0/8", "10.0.0.1", &both), "10.0.0.1");
    }

    #[test]
    fn what_is_no_network_is_named() {
        assert_eq!(TrustedProxies::parse("10.0.0.0/8, lan").unwrap_err(), "lan");
        TrustedProxies::parse("::1, fd00::/8,127.0.0.1").unwrap();
    }
}
