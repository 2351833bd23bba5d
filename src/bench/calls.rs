//! Calls of the hub's server API, one after another.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::order::ServerUnderLoad;

/// How many calls share a connection: the hub closes one after a thousand.
const CALLS_OF_CONNECTION: u32 = 999;

/// A caller, on one connection after another.
pub(super) struct Caller<'a> {
    target: &'a ServerUnderLoad,
    stream: Option<TcpStream>,
    /// The calls on this connection.
    calls: u32,
    answer: Vec<u8>,
}

impl<'a> Caller<'a> {
    pub(super) fn new(target: &'a ServerUnderLoad) -> Self {
        Self { target, stream: None, calls: 0, answer: vec![0; 256 * 1024] }
    }

    /// Makes a call, which must succeed.
    pub(super) fn call(&mut self, method: &str, path: &str, body: &str) -> io::Result<()> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {}\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.target.api_key,
            body.len()
        );
        let mut stream = match self.stream.take().filter(|_| self.calls < CALLS_OF_CONNECTION) {
            Some(stream) => stream,
            None => {
                self.calls = 0;
                let stream = TcpStream::connect(self.target.address)?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        self.calls += 1;
        stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        let whole = loop {
            let read = stream.read(&mut self.answer[filled..])?;
            filled += read;
            if let Some(length) = response_bytes(&self.answer[..filled])? {
                break length;
            }
            if read == 0 {
                return Err(io::Error::other("the server closed a call's connection"));
            }
        };
        while filled < whole {
            match stream.read(&mut self.answer[filled..])? {
                0 => return Err(io::Error::other("an answer is cut off, or too long")),
                read => filled += read,
            }
        }
        self.stream = Some(stream);
        Ok(())
    }
}

/// The size of a response, once its head has arrived.
fn response_bytes(bytes: &[u8]) -> io::Result<Option<usize>> {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(text.into_owned()));
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse::<usize>().ok());
    let length = length.ok_or_else(|| io::Error::other("the answer has no content-length"))?;
    Ok(Some(head.len() + 4 + length))
}
