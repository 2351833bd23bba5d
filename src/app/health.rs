//! `presence-hub health`: asks the hub that runs with this configuration on this machine whether it lives.
//! An image without a shell or curl needs it for its health check.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::Server;

/// The timeout of each step: the connection, the request, and each part of the answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The answer is small. Whatever listens there instead of a hub may send more.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Why the hub did not answer that all is well.
#[derive(Debug, thiserror::Error)]
pub enum HealthFault {
    /// The hub uses TLS, so its certificate names a host that this command does not know.
    #[error(
        "server.listen uses TLS: set server.plain_listen, for example to \"127.0.0.1:7810\", and this command \
         asks there"
    )]
    NeedsPlain,
    /// The configuration does not say where the hub listens.
    #[error("{0} is {1:?}: a fixed port is needed to ask the hub")]
    NoPort(&'static str, String),
    /// Nothing answered at this address.
    #[error("no answer from http://{0}{1}: {2}")]
    NoAnswer(SocketAddr, &'static str, io::Error),
    /// Something answered, but not with 200.
    #[error("http://{0}{1} answered {2:?}")]
    Unwell(SocketAddr, &'static str, String),
}

/// Asks for a path, `/health` or `/ready`; returns the body of the answer.
///
/// # Errors
///
/// If there is no answer, or its status is not 200.
pub fn ask(server: &Server, path: &'static str) -> Result<String, HealthFault> {
    let address = address(server)?;
    let no_answer = |error| HealthFault::NoAnswer(address, path, error);
    let answer = exchange(address, path).map_err(no_answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(HealthFault::Unwell(address, path, status.to_owned()))
    }
}

/// An address of the hub without TLS, as this machine can reach it.
fn address(server: &Server) -> Result<SocketAddr, HealthFault> {
    let (name, text) = match server.plain_listen.as_str() {
        "" if server.tls_certificate.as_os_str().is_empty() => ("server.listen", &server.listen),
        "" => return Err(HealthFault::NeedsPlain),
        _ => ("server.plain_listen", &server.plain_listen),
    };
    let address: Option<SocketAddr> = text.parse().ok();
    let mut address = address
        .filter(|address| address.port() != 0)
        .ok_or_else(|| HealthFault::NoPort(name, text.clone()))?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Ok(address)
}

fn exchange(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
