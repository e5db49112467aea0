//! Who is at the far end of a request: the other end of the connection, or, where that is a proxy of ours, the client
//! that the proxy names. Nobody else is believed.

use std::net::IpAddr;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR, X_FORWARDED_PROTO};
use ipnet::IpNet;
use nightferry_core::config::{ForwardedHeader, ServerConfig};

/// Hops looked at, from the right; nobody has so many proxies.
const MOST_HOPS: usize = 32;

/// Left in a request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address; none on a local socket.
    pub(crate) ip: Option<IpAddr>,
    /// Whether it came over TLS, which a proxy of ours ended.
    pub(crate) https: bool,
}

impl Client {
    /// The client of a request.
    pub(crate) fn of(request: &ServiceRequest, config: &ServerConfig) -> Self {
        let peer = request.peer_addr().map(|address| address.ip().to_canonical());
        Self::behind(peer, request.headers(), &config.trusted_proxies, config.forwarded_header)
    }

    fn behind(peer: Option<IpAddr>, headers: &HeaderMap, proxies: &[IpNet], header: ForwardedHeader) -> Self {
        let trusted = |ip: IpAddr| proxies.iter().any(|network| network.contains(&ip));
        let Some(proxy) = peer.filter(|ip| trusted(*ip)) else { return Self { ip: peer, https: false } };
        let (hops, https) = match header {
            ForwardedHeader::XForwardedFor => {
                let proto = last(headers, &X_FORWARDED_PROTO);
                (
                    elements(headers, &X_FORWARDED_FOR).iter().map(|text| address(text)).collect::<Vec<_>>(),
                    proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https")),
                )
            }
            ForwardedHeader::Forwarded => {
                let elements = elements(headers, &FORWARDED);
                let proto = elements.last().and_then(|element| parameter(element, "proto"));
                (
                    elements
                        .iter()
                        .map(|element| parameter(element, "for").and_then(|text| address(&text)))
                        .collect(),
                    proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https")),
                )
            }
        };
        let mut ip = proxy;
        for hop in hops.into_iter().rev().take(MOST_HOPS) {
            // Who is named by something that is no address is hidden behind the proxy that said so.
            let Some(hop) = hop else { break };
            ip = hop;
            if !trusted(hop) {
                break;
            }
        }
        Self { ip: Some(ip), https }
    }
}

/// The comma-separated elements of all headers of a name, in their order. Commas within quotes belong to the text.
fn elements(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let mut all = Vec::new();
    for value in headers.get_all(name) {
        let mut quoted = false;
        let text = String::from_utf8_lossy(value.as_bytes());
        let parts = text.split(|character: char| {
            quoted ^= character == '"';
            character == ',' && !quoted
        });
        all.extend(parts.map(|part| part.trim().to_owned()));
    }
    all
}

fn last(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    elements(headers, name).pop()
}

/// A parameter of an element of `Forwarded` (RFC 7239 section 4).
fn parameter(element: &str, name: &str) -> Option<String> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        // One colon is before a port; more are an address of IPv6.
        None if text.matches(':').count() == 1 => text.split(':').next()?,
        None => text,
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
    fn only_proxies_of_ours_are_believed_and_from_the_right() {
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
    fn the_standard_header_is_read_where_it_is_the_one() {
        let header = ForwardedHeader::Forwarded;
        let read = |value: &str| client(header, "10.0.0.1", &[(FORWARDED, value)]);
        assert_eq!(read("for=198.51.100.7;proto=https"), ("198.51.100.7".to_owned(), true));
        assert_eq!(
            read("for=203.0.113.9, For=\"[2001:db8::1]:4711\";by=10.0.0.1"),
            ("2001:db8::1".to_owned(), false)
        );
        assert_eq!(read("for=\"a, b\", for=198.51.100.7"), ("198.51.100.7".to_owned(), false));
        assert_eq!(read("for=_hidden"), ("10.0.0.1".to_owned(), false));
        let other = [(X_FORWARDED_FOR, "203.0.113.9")];
        assert_eq!(client(header, "10.0.0.1", &other).0, "10.0.0.1");
    }

    #[test]
    fn tls_is_believed_of_proxies_only() {
        let header = ForwardedHeader::XForwardedFor;
        let headers = [(X_FORWARDED_FOR, "198.51.100.7"), (X_FORWARDED_PROTO, "https")];
        assert!(client(header, "127.0.0.1", &headers).1);
        assert!(!client(header, "192.0.2.1", &headers).1);
    }
}
