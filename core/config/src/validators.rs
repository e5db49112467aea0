//! Validators of text values: addresses, URLs, bucket names, schedules, keys. Each returns the normal form of the
//! value, or the predicate of a sentence that describes the error, without the value.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use reqwest::Url;

use super::value::split_list;
use nightferry_ground::units::parse_size;

/// Any value that the type can parse; its `Display` output is the normal form.
pub(super) fn parsed<T: FromStr<Err = String> + ToString>(text: &str) -> Result<String, String> {
    text.parse::<T>().map(|value| value.to_string())
}

/// The error of a value that does not meet a condition.
pub(super) fn ensure(is_met: bool, error: &str) -> Result<(), String> {
    if is_met { Ok(()) } else { Err(error.to_owned()) }
}

/// Any non-empty text.
pub(super) fn any(text: &str) -> Result<String, String> {
    ensure(!text.trim().is_empty(), "is empty")?;
    Ok(text.to_owned())
}

/// An address to listen on.
pub(super) fn ip_address(text: &str) -> Result<String, String> {
    let text = text.trim();
    let address = if text.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { text };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    bare.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(|_| "is not an IP address".to_owned())
}

/// An `http` or `https` URL without credentials, query or path: the endpoint of a store.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let url = without_path(text, "an endpoint is only scheme, host and port")?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// An `http` or `https` URL without a path: the public address of the service.
pub(super) fn web_address(text: &str) -> Result<String, String> {
    let url = without_path(text, "the service must be at the root of its own host name")?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn without_path(text: &str, why: &str) -> Result<Url, String> {
    let url = http_url(text)?;
    if url.path() == "/" { Ok(url) } else { Err(format!("has a path; {why}")) }
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL: {error}"))?;
    ensure(matches!(url.scheme(), "http" | "https"), "does not start with http:// or https://")?;
    ensure(url.username().is_empty() && url.password().is_none(), "has credentials in the URL")?;
    ensure(url.query().is_none() && url.fragment().is_none(), "has a query or a fragment")?;
    Ok(url)
}

/// The issuer of an identity provider: with TLS, unless it is on this machine.
pub(super) fn issuer(text: &str) -> Result<String, String> {
    let url = http_url(text)?;
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    ensure(url.scheme() == "https" || is_here, "does not start with https://")?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// OAuth scopes including `openid`.
pub(super) fn oidc_scopes(text: &str) -> Result<String, String> {
    let scopes: Vec<&str> = text.split_whitespace().collect();
    ensure(scopes.contains(&"openid"), "lacks the scope openid")?;
    Ok(scopes.join(" "))
}

/// A Redis connection URL. The error gives no details: the URL may contain a password.
pub(super) fn redis_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text.trim()).map_err(|_| "is not a URL".to_owned())?;
    ensure(url.scheme() == "redis", "does not start with redis://")?;
    ensure(url.host_str().is_some_and(|host| !host.is_empty()), "has no host")?;
    let database = url.path().trim_start_matches('/');
    let is_number = database.is_empty() || database.parse::<u32>().is_ok();
    ensure(is_number, "has a path that is not a database number")?;
    Ok(text.trim().to_owned())
}

/// Networks of proxies, separated by commas: CIDR, or single addresses.
pub(super) fn networks(text: &str) -> Result<String, String> {
    let network = |word: &str| {
        let parsed = word.parse::<IpNet>().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
        parsed.map_err(|_| "contains something that is not a network such as 10.0.0.0/8".to_owned())
    };
    let parsed: Vec<IpNet> = split_list(text).map(network).collect::<Result<_, _>>()?;
    let is_limited = parsed.iter().all(|network| network.prefix_len() > 0);
    ensure(is_limited, "trusts all addresses; any client could then claim any address")?;
    Ok(parsed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// Web origins as in [`web_pages`], or `*` alone.
pub(super) fn origins(text: &str) -> Result<String, String> {
    if text.trim() == "*" { Ok("*".to_owned()) } else { web_pages(text) }
}

/// Origins of web pages, separated by commas: scheme, host and port, nothing else.
pub(super) fn web_pages(text: &str) -> Result<String, String> {
    let origin = |word: &str| {
        without_path(word, "an origin is only scheme, host and port")
            .map(|url| url.origin().ascii_serialization())
    };
    Ok(split_list(text).map(origin).collect::<Result<Vec<_>, _>>()?.join(", "))
}

/// A Postgres connection URL. The error gives no details: the URL contains a password.
pub(super) fn postgres_url(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
    ensure(is_postgres, "does not start with postgres://")?;
    let parsed: tokio_postgres::Config =
        text.parse().map_err(|_| "is not a Postgres URL (special characters in the password need percent-encoding; sslmode is disable, prefer or require)".to_owned())?;
    ensure(!parsed.get_hosts().is_empty(), "has no host")?;
    ensure(parsed.get_dbname().is_some_and(|name| !name.is_empty()), "has no database name")?;
    Ok(text.to_owned())
}

/// The key that protects tokens: RFC 7518 section 3.2 requires at least the size of the hash, 32 bytes for HS256.
pub(super) fn signing_key(text: &str) -> Result<String, String> {
    let length = text.len();
    if length < 32 {
        return Err(format!("is {length} bytes long; at least 32 are required"));
    }
    let first = text.bytes().next();
    ensure(text.bytes().any(|byte| Some(byte) != first), "is one repeated character")?;
    Ok(text.to_owned())
}

/// A bucket name according to the rules for S3 general purpose buckets.
pub(super) fn bucket(text: &str) -> Result<String, String> {
    let name = text.trim();
    ensure((3..=63).contains(&name.len()), "is not 3 to 63 characters long")?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let all_allowed = name.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'.');
    ensure(all_allowed, "has characters other than a-z, 0-9, hyphen and dot")?;
    let plain_ends = name.bytes().next().is_some_and(plain) && name.bytes().last().is_some_and(plain);
    ensure(plain_ends, "does not start and end with a letter or digit")?;
    ensure(!name.contains(".."), "has two dots in a row")?;
    ensure(name.parse::<std::net::Ipv4Addr>().is_err(), "looks like an IP address")?;
    let reserved_start = ["xn--", "sthree-", "amzn-s3-demo-"];
    let reserved_end = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];
    let is_reserved = reserved_start.iter().any(|start| name.starts_with(start))
        || reserved_end.iter().any(|end| name.ends_with(end));
    ensure(!is_reserved, "starts or ends with a part that S3 reserves")?;
    Ok(name.to_owned())
}

/// A region, as used in signatures and host names.
pub(super) fn region(text: &str) -> Result<String, String> {
    let name = text.trim();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ensure((1..=32).contains(&name.len()) && name.bytes().all(plain), "is not a region name")?;
    Ok(name.to_owned())
}

/// A size: a whole number with a unit.
pub(super) fn size(text: &str) -> Result<String, String> {
    parse_size(text).map(|_| text.trim().to_owned())
}

/// A storage class without restores.
pub(super) fn storage_class(text: &str) -> Result<String, String> {
    let class = any_storage_class(text)?;
    ensure(
        class != "GLACIER" && class != "DEEP_ARCHIVE",
        "is an archive class, whose objects cannot be read without a restore: a rule ([[policy.rules]]) \
         can use it for some files, a store cannot for all",
    )?;
    Ok(class)
}

/// Any storage class, including archive classes.
pub(super) fn any_storage_class(text: &str) -> Result<String, String> {
    let class = text.trim().to_ascii_uppercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    ensure((1..=32).contains(&class.len()) && class.bytes().all(plain), "is not a storage class")?;
    Ok(class)
}

/// The name of a rule; names reserved for other copies are rejected.
pub(super) fn rule_name(text: &str) -> Result<String, String> {
    const RESERVED_NAMES: [&str; 10] = [
        "default",
        "upload",
        "prefetch",
        "cache-on-read",
        "reconcile",
        "repair",
        "drain",
        "replication",
        "rebuild",
        "rebalance",
    ];
    let name = store_name(text).map_err(|_| "is not a valid rule name".to_owned())?;
    ensure(!RESERVED_NAMES.contains(&name.as_str()), "is a reserved name")?;
    Ok(name)
}

/// Names of stores, separated by commas.
pub(super) fn store_names(text: &str) -> Result<String, String> {
    let names: Vec<String> = split_list(text)
        .map(|name| store_name(name).map_err(|_| "contains something that is not a store name".to_owned()))
        .collect::<Result<_, _>>()?;
    let different: std::collections::BTreeSet<&String> = names.iter().collect();
    ensure(different.len() == names.len(), "names a store twice")?;
    Ok(names.join(", "))
}

/// Patterns for MIME types.
pub(super) fn content_types(text: &str) -> Result<String, String> {
    let globs: super::Globs = text.parse()?;
    let have_slash = globs.iter().all(|glob| glob.contains('/') || glob == "**");
    ensure(have_slash, "has a pattern without the slash of a MIME type")?;
    Ok(globs.to_string())
}

/// Patterns for paths of folders.
pub(super) fn folder_paths(text: &str) -> Result<String, String> {
    let globs: super::Globs = text.parse()?;
    let start_with_slash = globs.iter().all(|glob| glob.starts_with('/') || glob.starts_with("**"));
    ensure(start_with_slash, "has a pattern that does not start with a slash")?;
    let end_with_slash = globs.iter().any(|glob| glob.len() > 1 && glob.ends_with('/'));
    ensure(!end_with_slash, "has a pattern that ends with a slash")?;
    Ok(globs.to_string())
}

/// An ISO 4217 currency code.
pub(super) fn currency(text: &str) -> Result<String, String> {
    let code = text.trim().to_ascii_uppercase();
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    ensure(is_code, "is not a currency of three letters")?;
    Ok(code)
}

/// A name of a store: `[a-z][a-z0-9-]{0,31}`.
pub(super) fn store_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.len() <= 32
        && text.bytes().all(plain);
    ensure(is_name, "is not a valid store name")?;
    Ok(text.to_owned())
}

/// A key or secret of a store: printable, without spaces, which are usually copying errors.
pub(super) fn credential(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    ensure(is_graphic, "contains spaces or non-ASCII characters")?;
    Ok(text.to_owned())
}

/// Encryption keys; their format is checked where they are loaded.
pub(super) fn keys(text: &str) -> Result<String, String> {
    let is_ascii = text.bytes().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    ensure(is_ascii, "contains non-ASCII characters")?;
    Ok(text.trim().to_owned())
}

/// A cron expression with six fields, seconds first, that matches at least once.
pub(super) fn schedule(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fields = text.split_whitespace().count();
    if fields != 6 {
        return Err(format!("has {fields} fields instead of 6 (seconds come first)"));
    }
    let pattern = croner::parser::CronParser::builder()
        .seconds(croner::parser::Seconds::Required)
        .build()
        .parse(text)
        .map_err(|error| format!("is not a schedule: {error}"))?;
    let some_day = chrono::DateTime::UNIX_EPOCH;
    pattern
        .find_next_occurrence(&some_day, false)
        .map_err(|_| "is a schedule that never comes due".to_owned())?;
    Ok(text.to_owned())
}

/// An IANA time zone.
pub(super) fn time_zone(text: &str) -> Result<String, String> {
    text.trim()
        .parse::<chrono_tz::Tz>()
        .map(|zone| zone.name().to_owned())
        .map_err(|_| "is not an IANA time zone".to_owned())
}

/// A log level, alone or with levels for individual modules.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text.trim();
    for part in text.split(',').map(str::trim) {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        ensure(levels.iter().any(|known| known.eq_ignore_ascii_case(level)), "is not a log level")?;
    }
    tracing_subscriber::EnvFilter::builder()
        .parse(text)
        .map(|_| text.to_ascii_lowercase())
        .map_err(|_| "is not a log level".to_owned())
}

/// The path of a file; its folder may not exist yet.
pub(super) fn file_path(text: &str) -> Result<String, String> {
    let path = std::path::Path::new(text);
    let is_file = !text.trim().is_empty() && !text.ends_with('/') && path.file_name().is_some();
    ensure(is_file, "does not name a file")?;
    Ok(text.to_owned())
}
