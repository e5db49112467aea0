//! Determines the client of a request: the peer of the connection or, if that is a trusted proxy, the client named by
//! the proxy. Forwarding headers from other peers are ignored.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR, X_FORWARDED_PROTO};
use ipnet::IpNet;
use nightferry_core::config::{ForwardedHeader, ServerConfig};

/// The maximum number of hops to examine, from the right.
const MAX_HOPS: usize = 32;

/// Stored in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// Address; `None` on a local socket.
    pub(crate) ip: Option<IpAddr>,
    /// Whether it used TLS, terminated by a trusted proxy.
    pub(crate) https: bool,
}

impl Client {
    pub(crate) fn of(request: &ServiceRequest, config: &ServerConfig) -> Self {
        let peer = request.peer_addr().map(|address| address.ip().to_canonical());
        Self::behind(peer, request.headers(), &config.trusted_proxies, config.forwarded_header)
    }

    fn behind(peer: Option<IpAddr>, headers: &HeaderMap, proxies: &[IpNet], header: ForwardedHeader) -> Self {
        let trusted = |ip: IpAddr| proxies.iter().any(|network| network.contains(&ip));
        let Some(proxy) = peer.filter(|ip| trusted(*ip)) else { return Self { ip: peer, https: false } };
        let (hops, proto) = match header {
            ForwardedHeader::XForwardedFor => {
                let hops = from_the_right(headers, &X_FORWARDED_FOR, Quotes::AreText);
                let proto = from_the_right(headers, &X_FORWARDED_PROTO, Quotes::AreText).into_iter().next();
                (hops.iter().map(|text| address(text)).collect::<Vec<_>>(), proto)
            }
            ForwardedHeader::Forwarded => {
                let elements = from_the_right(headers, &FORWARDED, Quotes::HoldText);
                let proto = elements.first().and_then(|element| parameter(element, "proto"));
                let hop = |element: &String| parameter(element, "for").and_then(|text| address(&text));
                (elements.iter().map(hop).collect(), proto)
            }
        };
        let https = proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
        let mut ip = proxy;
        for hop in hops {
            // If a proxy names something that is not an address, the proxy itself counts as the client.
            let Some(hop) = hop else { break };
            ip = hop;
            if !trusted(hop) {
                break;
            }
        }
        Self { ip: Some(ip), https }
    }
}

/// The meaning of quotes in a header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// Nothing.
    AreText,
    /// Commas between two quotes do not separate elements.
    HoldText,
}

/// The comma-separated elements of all headers with this name, last one first, at most [`MAX_HOPS`]. They are split
/// from the right, where trusted proxies append: an unclosed quote sent by a client only affects the elements further
/// left, which are the client's own, and never those that a proxy appended.
fn from_the_right(headers: &HeaderMap, name: &HeaderName, meaning: Quotes) -> Vec<String> {
    let values: Vec<_> = headers.get_all(name).collect();
    let mut all = Vec::new();
    for value in values.into_iter().rev() {
        let mut quoted = false;
        let text = String::from_utf8_lossy(value.as_bytes());
        let parts = text.rsplit(|character: char| {
            quoted ^= character == '"' && meaning == Quotes::HoldText;
            character == ',' && !quoted
        });
        all.extend(parts.take(MAX_HOPS - all.len()).map(|part| part.trim().to_owned()));
    }
    all
}

/// A parameter of an element of `Forwarded` (RFC 7239 section 4). `None` if a quote is not closed.
fn parameter(element: &str, name: &str) -> Option<String> {
    if element.matches('"').count() % 2 == 1 {
        return None;
    }
    let value = element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })?;
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some(quoted.unwrap_or(value).to_owned())
}

/// An address, with or without a port; IPv6 addresses with a port are in brackets. `None` for anything else.
fn address(text: &str) -> Option<IpAddr> {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let (bare, after) = rest.split_once(']')?;
        let is_whole = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        let ip = bare.parse::<Ipv6Addr>().ok().filter(|_| is_whole)?;
        return Some(IpAddr::V6(ip).to_canonical());
    }
    let bare = match text.split_once(':') {
        // A single colon precedes a port; several mean an IPv6 address.
        Some((bare, port)) if !port.contains(':') => is_port(port).then_some(bare)?,
        _ => text,
    };
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn client(header: ForwardedHeader, peer: &str, headers: &[(HeaderName, &str)]) -> (String, bool) {
        let proxies = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        let client =
            Client::behind(Some(peer.parse::<IpAddr>().unwrap().to_canonical()), &map, &proxies, header);
        (client.ip.unwrap().to_string(), client.https)
    }

    #[test]
    fn only_trusted_proxies_are_honoured_from_the_right() {
        let header = ForwardedHeader::XForwardedFor;
        let ip = |peer: &str, value: &str| client(header, peer, &[(X_FORWARDED_FOR, value)]).0;
        assert_eq!(ip("192.0.2.1", "198.51.100.7"), "192.0.2.1", "a stranger claims what he likes");
        assert_eq!(ip("127.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(
            ip("127.0.0.1", "203.0.113.9, 198.51.100.7"),
            "198.51.100.7",
            "what a client put in front"
        );
        assert_eq!(ip("127.0.0.1", "203.0.113.9, 198.51.100.7, 10.1.2.3"), "198.51.100.7");
        assert_eq!(ip("127.0.0.1", "10.9.9.9, 10.1.2.3"), "10.9.9.9", "all ours: the farthest one");
        assert_eq!(ip("127.0.0.1", "198.51.100.7:4711"), "198.51.100.7");
        assert_eq!(ip("127.0.0.1", "[2001:db8::1]:80"), "2001:db8::1");
        assert_eq!(ip("127.0.0.1", "2001:db8::1"), "2001:db8::1");
        assert_eq!(ip("::ffff:127.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(ip("127.0.0.1", "198.51.100.7, nonsense"), "127.0.0.1");
        assert_eq!(ip("127.0.0.1", "198.51.100.7, nonsense, 10.1.2.3"), "10.1.2.3");
        assert_eq!(ip("127.0.0.1", ""), "127.0.0.1");
        // Unterminated input of a client, to which the proxy appends.
        for open in ["[203.0.113.9]\"", "203.0.113.9:\"", "\"", "\"203.0.113.9", "[203.0.113.9", "a\", \"b"] {
            let written = format!("{open}, 198.51.100.7");
            assert_eq!(ip("127.0.0.1", &written), "198.51.100.7", "{open}");
        }
        for wrong in [
            "[203.0.113.9]",
            "[2001:db8::1]x",
            "[2001:db8::1]:",
            "[2001:db8::1]:8x",
            "203.0.113.9:x",
            "203.0.113.9:",
        ] {
            assert_eq!(ip("127.0.0.1", wrong), "127.0.0.1", "{wrong} is no address");
        }
        let two = [(X_FORWARDED_FOR, "203.0.113.9"), (X_FORWARDED_FOR, "198.51.100.7")];
        assert_eq!(client(header, "127.0.0.1", &two).0, "198.51.100.7");
        let other = [(FORWARDED, "for=203.0.113.9;proto=https")];
        assert_eq!(
            client(header, "127.0.0.1", &other),
            ("127.0.0.1".to_owned(), false),
            "the header that is not ours"
        );
    }

    #[test]
    fn the_forwarded_header_is_read_if_configured() {
        let header = ForwardedHeader::Forwarded;
        let read = |value: &str| client(header, "10.0.0.1", &[(FORWARDED, value)]);
        assert_eq!(read("for=198.51.100.7;proto=https"), ("198.51.100.7".to_owned(), true));
        assert_eq!(
            read("for=203.0.113.9, For=\"[2001:db8::1]:4711\";by=10.0.0.1"),
            ("2001:db8::1".to_owned(), false)
        );
        assert_eq!(read("for=\"a, b\", for=198.51.100.7"), ("198.51.100.7".to_owned(), false));
        assert_eq!(read("for=_hidden"), ("10.0.0.1".to_owned(), false));
        // Unterminated input of a client, to which the proxy appends.
        for open in
            ["for=\"[203.0.113.9]", "for=\"203.0.113.9", "for=\"", "x=\"a, b\", for=\"", "for=\"a\\\""]
        {
            for (added, address) in [
                ("for=198.51.100.7", "198.51.100.7"),
                ("for=\"[2001:db8::1]:80\";proto=https", "2001:db8::1"),
            ] {
                assert_eq!(read(&format!("{open}, {added}")).0, address, "{open}");
                // Behind a second trusted proxy it has no effect.
                let behind = format!("{open}, for=10.1.2.3");
                assert_eq!(read(&behind).0, "10.1.2.3", "{open}");
            }
        }
        assert_eq!(read("for=203.0.113.9\"").0, "10.0.0.1");
        assert_eq!(read("for=\"203.0.113.9").0, "10.0.0.1");
        let other = [(X_FORWARDED_FOR, "203.0.113.9")];
        assert_eq!(client(header, "10.0.0.1", &other).0, "10.0.0.1");
    }

    #[test]
    fn the_scheme_is_only_accepted_from_trusted_proxies() {
        let header = ForwardedHeader::XForwardedFor;
        let headers = [(X_FORWARDED_FOR, "198.51.100.7"), (X_FORWARDED_PROTO, "https")];
        assert!(client(header, "127.0.0.1", &headers).1);
        assert!(!client(header, "192.0.2.1", &headers).1);
    }
}
