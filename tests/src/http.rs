//! A small HTTP client: one request on one connection, read to its end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long connecting, sending and each read may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks for `path`.
///
/// # Errors
/// The connection fails, or the answer is not HTTP, or shorter than it says.
pub fn get(address: SocketAddr, path: &str) -> Result<Response> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    Response::parse(&exchange(address, request.as_bytes())?)
}

/// Sends bytes and returns everything that comes back until the other side closes.
///
/// # Errors
/// The connection fails.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(bytes).context("cannot send the request")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("cannot read the answer")?;
    Ok(answer)
}

impl Response {
    /// Reads a response whose end is the end of the bytes.
    ///
    /// # Errors
    /// It is not HTTP, or the body is not as long as `Content-Length` says.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.context("an answer without an end of its head")?;
        let head = std::str::from_utf8(&bytes[..end]).context("a head that is not text")?;
        let body = bytes[end + 4..].to_vec();
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
        let status = status.context("an answer without a status")?;
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let response = Self { status, headers, body };
        if let Some(length) = response.header("content-length") {
            ensure!(
                length.parse() == Ok(response.body.len()),
                "{length} bytes announced, {} came",
                response.body.len()
            );
        }
        Ok(response)
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the body is not JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_taken_apart() {
        let response = Response::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        assert_eq!((response.status, response.body.as_slice()), (200, &b"hi"[..]));
        assert_eq!(response.header("content-length"), Some("2"));
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        assert!(Response::parse(b"").is_err());
        assert!(Response::parse(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(Response::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi").is_err());
        assert!(Response::parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
