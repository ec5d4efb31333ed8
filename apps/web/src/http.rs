//! HTTP/1.1, as far as a server of small pages needs it (RFC 9112).

use alloc::format;
use alloc::string::String;

use httparse::{EMPTY_HEADER, Error, Header, Request as Parsed, Status as Progress};

/// The longest head of a request, in bytes.
pub const HEAD_MAX: usize = 4096;
/// The most header fields of a request.
const FIELDS_MAX: usize = 48;

/// What an answer begins with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// 200
    Ok,
    /// 400: not HTTP.
    BadRequest,
    /// 404: no such page.
    NotFound,
    /// 405: neither GET nor HEAD.
    MethodNotAllowed,
    /// 408: the request takes too long.
    RequestTimeout,
    /// 413: a request with a body, for which there is no use.
    ContentTooLarge,
    /// 431: a head that is too long, or has too many fields.
    HeadTooLarge,
    /// 503: more clients than can be served.
    Unavailable,
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    VersionNotSupported,
}

impl Status {
    /// The number and its reason.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// Whether the connection has to end after it: where the next request starts is not known, or
    /// there is no time for it.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Ok | Self::NotFound | Self::MethodNotAllowed)
    }
}

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// The path, without the query.
    pub path: &'a str,
    /// Only the head of the answer is wanted.
    pub head_only: bool,
    /// Whether the method is one that the server knows.
    pub allowed: bool,
    /// The connection is to stay open.
    pub keep_alive: bool,
    /// The bytes of the request.
    pub length: usize,
}

/// Reads the request at the beginning of `bytes`. `None`: it is not complete.
///
/// # Errors
/// The status to answer with, after which the connection ends.
pub fn parse(bytes: &[u8]) -> Result<Option<Request<'_>>, Status> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = Parsed::new(&mut fields);
    let head = bytes.get(..HEAD_MAX).unwrap_or(bytes);
    let length = match parsed.parse(head) {
        Ok(Progress::Complete(length)) => length,
        Ok(Progress::Partial) if bytes.len() < HEAD_MAX => return Ok(None),
        Ok(Progress::Partial) | Err(Error::TooManyHeaders) => return Err(Status::HeadTooLarge),
        Err(Error::Version) => return Err(Status::VersionNotSupported),
        Err(_) => return Err(Status::BadRequest),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Status::BadRequest);
    };
    let fields = &*parsed.headers;
    if minor > 0 && count(fields, "host") != 1 {
        return Err(Status::BadRequest);
    }
    if has_body(fields)? {
        return Err(Status::ContentTooLarge);
    }
    let keep_alive = match minor {
        0 => names(fields, "connection", "keep-alive"),
        _ => !names(fields, "connection", "close"),
    };
    let path = path(target).ok_or(Status::BadRequest)?;
    let head_only = method == "HEAD";
    let allowed = head_only || method == "GET";
    Ok(Some(Request { path, head_only, allowed, keep_alive, length }))
}

fn named<'a>(fields: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let fields = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    fields.map(|field| field.value)
}

fn count(fields: &[Header<'_>], name: &str) -> usize {
    named(fields, name).count()
}

/// Whether a field's list contains a word.
fn names(fields: &[Header<'_>], name: &str, word: &str) -> bool {
    named(fields, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether a body follows the head. Lengths that are no numbers, or contradict each other, would
/// let a client hide a second request from whoever stands in between.
fn has_body(fields: &[Header<'_>]) -> Result<bool, Status> {
    if count(fields, "transfer-encoding") > 0 {
        return Ok(true);
    }
    let mut body = false;
    let mut last = None;
    for value in named(fields, "content-length") {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !digits || last.is_some_and(|last| last != value) {
            return Err(Status::BadRequest);
        }
        body = value.iter().any(|&digit| digit != b'0');
        last = Some(value);
    }
    Ok(body)
}

/// The path of a request's target, which may be a whole address.
fn path(target: &str) -> Option<&str> {
    let scheme = target.get(..7).filter(|start| start.eq_ignore_ascii_case("http://"));
    let path = match scheme {
        None => target,
        Some(_) => {
            let rest = &target[7..];
            rest.find('/').map_or("/", |start| &rest[start..])
        }
    };
    let path = path.split(['?', '#']).next()?;
    path.starts_with('/').then_some(path)
}

/// The head of an answer with a body of `length` bytes.
pub fn head(status: Status, content_type: &str, length: usize, keep_alive: bool) -> String {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let extra = match status {
        Status::MethodNotAllowed => "Allow: GET, HEAD\r\n",
        Status::Unavailable => "Retry-After: 1\r\n",
        _ => "",
    };
    // No date: whoever has no clock must not send one (RFC 9110, 6.6.1).
    format!(
        "HTTP/1.1 {}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: {connection}\r\n{extra}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n\r\n",
        status.text(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ok(text: &str) -> Request<'_> {
        parse(text.as_bytes()).unwrap().unwrap()
    }

    fn error(text: &str) -> Status {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn requests_are_read() {
        let text = "GET /state.json?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\nGET /";
        let request = ok(text);
        assert_eq!((request.path, request.length), ("/state.json", text.len() - 5));
        assert!(request.allowed && request.keep_alive && !request.head_only);
        assert!(ok("HEAD / HTTP/1.1\r\nhost:a\r\n\r\n").head_only);
        assert!(!ok("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n").allowed);
        assert_eq!(ok("GET http://a:80/b HTTP/1.1\r\nHost: a\r\n\r\n").path, "/b");
        assert_eq!(ok("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").path, "/");
    }

    #[test]
    fn connections_stay_open_as_the_versions_say() {
        let request = |version, field| format!("GET / HTTP/1.{version}\r\nHost: a\r\n{field}\r\n");
        assert!(ok(&request(1, "")).keep_alive);
        assert!(!ok(&request(1, "Connection: x, Close\r\n")).keep_alive);
        assert!(!ok(&request(0, "")).keep_alive);
        assert!(ok(&request(0, "Connection: Keep-Alive\r\n")).keep_alive);
        assert!(ok("GET / HTTP/1.0\r\n\r\n").allowed, "no host in the old version");
    }

    #[test]
    fn what_is_not_a_request_has_a_status() {
        assert_eq!(error("nonsense\r\n\r\n"), Status::BadRequest);
        assert_eq!(error("GET / HTTP/2.0\r\n\r\n"), Status::VersionNotSupported);
        assert_eq!(error("GET / HTTP/1.1\r\n\r\n"), Status::BadRequest, "no host");
        assert_eq!(error("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Status::BadRequest);
        assert_eq!(error("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), Status::BadRequest);
        let body = |field| error(&format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
        assert_eq!(body("Content-Length: 5"), Status::ContentTooLarge);
        assert_eq!(body("Transfer-Encoding: chunked"), Status::ContentTooLarge);
        assert_eq!(body("Content-Length: -5"), Status::BadRequest);
        assert_eq!(body("Content-Length: 0\r\nContent-Length: 00"), Status::BadRequest);
        assert!(ok("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").allowed);
    }

    #[test]
    fn heads_have_a_limit() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(HEAD_MAX));
        assert_eq!(error(&long), Status::HeadTooLarge);
        assert_eq!(parse(&long.as_bytes()[..HEAD_MAX - 1]), Ok(None));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(FIELDS_MAX));
        assert_eq!(error(&many), Status::HeadTooLarge);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_damage_makes_it_fail(place in 0..60usize, byte: u8, length in 0..60usize) {
            let mut bytes = b"GET http://host/path?query HTTP/1.1\r\nHost: a\r\nConnection: b\r\n\r\n".to_vec();
            bytes[place] = byte;
            bytes.truncate(length);
            if let Ok(Some(request)) = parse(&bytes) {
                prop_assert!(request.length <= bytes.len() && request.path.starts_with('/'));
            }
        }

        #[test]
        fn a_request_cut_short_is_incomplete(length in 0..30usize) {
            let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            let cut = length.min(text.len() - 1);
            prop_assert_eq!(parse(&text[..cut]), Ok(None));
        }
    }
}
