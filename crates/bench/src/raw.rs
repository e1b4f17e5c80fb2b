//! Calls as bytes: encoded before they are sent, on connections that stay open.
//!
//! The programs under test share the machine with whoever calls them, so the caller must be cheap:
//! an HTTP/1.1 request is one write of bytes made beforehand, a gRPC request the same with the
//! number of its stream filled in. Answers are looked at as far as it takes to know that they are
//! right.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::rc::Rc;

use buffa::Message;
use rustix::buffer::spare_capacity;
use rustix::net::RecvFlags;
use serde::Serialize;

use crate::Result;

/// How a call is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// Connect with JSON over HTTP/1.1.
    Json,
    /// Connect with protobuf over HTTP/1.1.
    Proto,
    /// gRPC over HTTP/2.
    Grpc,
}

impl Protocol {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "Connect JSON",
            Self::Proto => "Connect protobuf",
            Self::Grpc => "gRPC",
        }
    }

    /// A message as its bytes.
    pub fn body(self, message: &(impl Message + Serialize)) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Json => serde_json::to_vec(message)?,
            Self::Proto => message.encode_to_vec(),
            Self::Grpc => {
                let message = message.encode_to_vec();
                let mut body = vec![0];
                body.extend(u32::try_from(message.len())?.to_be_bytes());
                body.extend(message);
                body
            }
        })
    }
}

/// Who is called, how, and with which token.
#[derive(Debug, Clone)]
pub struct Caller {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub token: Option<String>,
}

/// A request, ready to be sent as often as one likes.
pub type Request = Rc<[u8]>;

impl Caller {
    /// A request for `method`, for example `/navarch.ControlPlaneService/SendHeartbeat`. Lanes of
    /// gRPC send every request to the method that they were opened for.
    pub fn request(&self, method: &str, message: &(impl Message + Serialize)) -> Result<Request> {
        let body = self.protocol.body(message)?;
        let kind = match self.protocol {
            Protocol::Json => "json",
            Protocol::Proto => "proto",
            Protocol::Grpc => return Ok(frame(DATA, END_STREAM, 0, &body)?.into()),
        };
        let token = match &self.token {
            Some(token) => format!("authorization: Bearer {token}\r\n"),
            None => String::new(),
        };
        let mut bytes = format!(
            "POST {method} HTTP/1.1\r\nhost: {}\r\nuser-agent: navarch-bench\r\n{token}\
             connect-protocol-version: 1\r\ncontent-type: application/{kind}\r\n\
             content-length: {}\r\n\r\n",
            self.address,
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        Ok(bytes.into())
    }

    /// Opens a connection; for gRPC it calls `method` and nothing else.
    pub fn open(&self, method: &str) -> Result<Lane> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let mut lane = Lane {
            stream,
            inbox: Vec::with_capacity(4096),
            speech: Speech::Http1 {
                framing: None,
                body: None,
            },
        };
        if self.protocol == Protocol::Grpc {
            lane.start_http2(&self.headers(method))?;
        } else {
            lane.start_http1()?;
        }
        Ok(lane)
    }

    fn headers(&self, method: &str) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (":method", "POST".to_owned()),
            (":scheme", "http".to_owned()),
            (":path", method.to_owned()),
            (":authority", self.address.to_string()),
            ("content-type", "application/grpc+proto".to_owned()),
            ("te", "trailers".to_owned()),
            ("user-agent", "navarch-bench".to_owned()),
        ];
        if let Some(token) = &self.token {
            headers.push(("authorization", format!("Bearer {token}")));
        }
        headers
    }
}

/// A connection that carries one call at a time.
#[derive(Debug)]
pub struct Lane {
    pub stream: TcpStream,
    inbox: Vec<u8>,
    speech: Speech,
}

#[derive(Debug)]
enum Speech {
    Http1 {
        /// What the headers say of the body, once they are there.
        framing: Option<Framing>,
        /// Where the body is, once it is whole.
        body: Option<Range<usize>>,
    },
    Http2 {
        /// The headers of every request, as references to the table of the first.
        headers: Vec<u8>,
        stream: u32,
        scratch: Vec<u8>,
        body: Vec<u8>,
        ended: bool,
    },
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// On DATA and HEADERS; on SETTINGS and PING the same bit means an acknowledgement.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Bytes of a frame before its payload.
const FRAME: usize = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(payload.len())?.to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    Ok(bytes)
}

/// Header fields as literals that enter the server's table, and as references to them there.
fn hpack(fields: &[(&str, String)]) -> Result<(Vec<u8>, Vec<u8>)> {
    /// The first place after the static table, where the newest entry is.
    const NEWEST: usize = 62;
    let (mut literals, mut references) = (Vec::new(), Vec::new());
    for (at, (name, value)) in fields.iter().enumerate() {
        literals.push(0x40);
        for text in [name.as_bytes(), value.as_bytes()] {
            if text.len() >= 127 {
                return Err("a header is too long for the short form".into());
            }
            literals.push(u8::try_from(text.len())?);
            literals.extend(text);
        }
        references.push(0x80 | u8::try_from(NEWEST + fields.len() - 1 - at)?);
    }
    Ok((literals, references))
}

impl Lane {
    /// Asks for something and does not mind the answer. It comes once the connection is accepted,
    /// so that many connections do not wait for that at once, and none is taken for one that never
    /// asks.
    fn start_http1(&mut self) -> Result<()> {
        self.stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        loop {
            self.read_more()?;
            if let Some(framing) = Framing::of(&self.inbox)?
                && framing.body(&mut self.inbox)?.is_some()
            {
                self.inbox.clear();
                return Ok(());
            }
        }
    }

    fn read_more(&mut self) -> Result<()> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes)? {
            0 => Err("the server closed the connection".into()),
            count => {
                self.inbox.extend(&bytes[..count]);
                Ok(())
            }
        }
    }

    fn start_http2(&mut self, fields: &[(&'static str, String)]) -> Result<()> {
        let (literals, references) = hpack(fields)?;
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[])?);
        // As wide as it goes, so that no answer waits for us to widen it.
        let window: u32 = (1 << 31) - 1 - 65_535;
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &window.to_be_bytes())?);
        self.stream.write_all(&bytes)?;
        self.speech = Speech::Http2 {
            headers: literals,
            stream: 1,
            scratch: Vec::new(),
            body: Vec::new(),
            ended: false,
        };
        // The first call fills the table; an unknown body is refused, which does not matter.
        let probe = frame(DATA, END_STREAM, 0, &[0, 0, 0, 0, 0])?;
        self.send(&probe)?;
        while !self.is_answered()? {
            self.read_more()?;
        }
        self.reset();
        if let Speech::Http2 { headers, .. } = &mut self.speech {
            *headers = references;
        }
        Ok(())
    }

    /// Sends a request, whole.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        match &mut self.speech {
            Speech::Http1 { .. } => self.stream.write_all(request)?,
            Speech::Http2 {
                headers,
                stream,
                scratch,
                ..
            } => {
                scratch.clear();
                scratch.extend(frame(HEADERS, END_HEADERS, *stream, headers)?);
                let data = scratch.len();
                scratch.extend(request);
                scratch[data + 5..data + FRAME].copy_from_slice(&stream.to_be_bytes());
                self.stream.write_all(scratch)?;
            }
        }
        Ok(())
    }

    /// Reads what came. Whether the answer is whole; its body is [`body`](Self::body) until the
    /// next request.
    pub fn receive(&mut self) -> Result<bool> {
        if self.inbox.capacity() - self.inbox.len() < 4096 {
            self.inbox.reserve(256 * 1024);
        }
        let spare = spare_capacity(&mut self.inbox);
        match rustix::net::recv(&self.stream, spare, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err("the server closed the connection".into()),
            Ok(_) => self.is_answered(),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn is_answered(&mut self) -> Result<bool> {
        match &mut self.speech {
            Speech::Http1 { framing, body } => {
                if framing.is_none() {
                    *framing = Framing::read(&self.inbox)?;
                }
                if let Some(framing) = framing {
                    *body = framing.body(&mut self.inbox)?;
                }
                Ok(body.is_some())
            }
            Speech::Http2 {
                stream,
                body,
                ended,
                ..
            } => {
                let mut at = 0;
                let mut replies = Vec::new();
                while let Some((kind, flags, id, payload)) = read_frame(&self.inbox[at..]) {
                    at += FRAME + payload.len();
                    match kind {
                        DATA if id == *stream => body.extend(payload),
                        HEADERS if id == *stream => *ended |= flags & END_STREAM != 0,
                        SETTINGS if flags & END_STREAM == 0 => {
                            replies.extend(frame(SETTINGS, END_STREAM, 0, &[])?);
                        }
                        PING if flags & END_STREAM == 0 => {
                            replies.extend(frame(PING, END_STREAM, 0, payload)?);
                        }
                        RST_STREAM | GOAWAY => {
                            return Err("the server ended an HTTP/2 stream".into());
                        }
                        _ => {}
                    }
                }
                self.inbox.drain(..at);
                if !replies.is_empty() {
                    self.stream.write_all(&replies)?;
                }
                Ok(*ended)
            }
        }
    }

    /// The body of the answer; for gRPC with its prefix of five bytes.
    pub fn body(&self) -> &[u8] {
        match &self.speech {
            Speech::Http1 { body, .. } => body.clone().map_or(&[], |body| &self.inbox[body]),
            Speech::Http2 { body, .. } => body,
        }
    }

    /// Makes room for the next answer.
    pub fn reset(&mut self) {
        match &mut self.speech {
            Speech::Http1 { framing, body } => {
                self.inbox.clear();
                (*framing, *body) = (None, None);
            }
            Speech::Http2 {
                stream,
                body,
                ended,
                ..
            } => {
                *stream += 2;
                body.clear();
                *ended = false;
            }
        }
    }
}

/// How an HTTP/1.1 answer says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The body is these bytes.
    Length(usize, usize),
    /// The body comes in chunks, the first at this place.
    Chunks(usize),
}

impl Framing {
    /// Reads the headers of an answer, if they are whole.
    ///
    /// # Errors
    ///
    /// When the answer is not 200 or cannot be read.
    pub fn read(inbox: &[u8]) -> Result<Option<Self>> {
        let framing = Self::of(inbox)?;
        if framing.is_some() && !inbox.starts_with(b"HTTP/1.1 200 ") {
            let all = String::from_utf8_lossy(inbox);
            return Err(format!("not 200: {all}").into());
        }
        Ok(framing)
    }

    /// Reads the headers of any answer.
    fn of(inbox: &[u8]) -> Result<Option<Self>> {
        let Some(headers) = inbox.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let (text, start) = (std::str::from_utf8(&inbox[..headers])?, headers + 4);
        let fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
        for (name, value) in fields {
            if name.eq_ignore_ascii_case("content-length") {
                let length: usize = value.trim().parse()?;
                return Ok(Some(Self::Length(start, start + length)));
            }
            if name.eq_ignore_ascii_case("transfer-encoding") && value.trim() == "chunked" {
                return Ok(Some(Self::Chunks(start)));
            }
        }
        Err(format!("an answer of unknown length: {text}").into())
    }

    /// Where the body is, if it is whole. Several chunks are moved together.
    ///
    /// # Errors
    ///
    /// When a chunk cannot be read.
    pub fn body(self, inbox: &mut Vec<u8>) -> Result<Option<Range<usize>>> {
        let start = match self {
            Self::Length(start, end) => return Ok((inbox.len() >= end).then_some(start..end)),
            Self::Chunks(start) => start,
        };
        let mut chunks = Vec::new();
        let mut at = start;
        loop {
            let line = &inbox[at.min(inbox.len())..];
            let Some(end) = line.iter().take(20).position(|byte| *byte == b'\n') else {
                return Ok(None);
            };
            let digits = std::str::from_utf8(&line[..end])?.trim_end();
            let length = usize::from_str_radix(digits, 16)
                .map_err(|_| format!("{digits:?} is no length of a chunk"))?;
            let from = at + end + 1;
            at = from + length + 2;
            if inbox.len() < at {
                return Ok(None);
            }
            if length == 0 {
                break;
            }
            chunks.push(from..from + length);
        }
        match chunks.as_slice() {
            [] => Ok(Some(start..start)),
            [one] => Ok(Some(one.clone())),
            _ => {
                let joined: Vec<u8> = chunks
                    .iter()
                    .flat_map(|chunk| &inbox[chunk.clone()])
                    .copied()
                    .collect();
                let body = inbox.len()..inbox.len() + joined.len();
                inbox.extend(joined);
                Ok(Some(body))
            }
        }
    }
}

/// The first frame of these bytes, if it is whole: its type, flags, stream and payload.
fn read_frame(bytes: &[u8]) -> Option<(u8, u8, u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<FRAME>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let payload = rest.get(..usize::try_from(length).ok()?)?;
    Some((head[3], head[4], stream, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(answer: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut inbox = answer.to_vec();
        let Some(framing) = Framing::read(&inbox)? else {
            return Ok(None);
        };
        let body = framing.body(&mut inbox)?;
        Ok(body.map(|body| inbox[body].to_vec()))
    }

    #[test]
    fn a_body_is_found_once_it_is_whole() {
        for (answer, body) in [
            ("content-type: a\r\nContent-Length: 2\r\n\r\n{}", "{}"),
            ("content-length: 0\r\n\r\n", ""),
            (
                "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                "{}",
            ),
            ("transfer-encoding: chunked\r\n\r\n0\r\n\r\n", ""),
            (
                "transfer-encoding: chunked\r\n\r\n1\r\na\r\n0A\r\n0123456789\r\n0\r\n\r\n",
                "a0123456789",
            ),
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{answer}");
            for cut in 0..answer.len() {
                let found = body_of(&answer.as_bytes()[..cut]).expect("fine so far");
                assert_eq!(found, None, "{:?}", &answer[..cut]);
            }
            let found = body_of(answer.as_bytes()).expect("fine");
            assert_eq!(found.as_deref(), Some(body.as_bytes()), "{answer:?}");
        }
    }

    #[test]
    fn an_answer_that_is_not_200_or_has_no_length_is_an_error() {
        for bad in [
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        ] {
            assert!(body_of(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_frame_is_read_when_it_is_whole() {
        let bytes = frame(DATA, END_STREAM, 7, b"abc").expect("short");
        assert_eq!(
            bytes,
            [0, 0, 3, 0, 1, 0, 0, 0, 7, b'a', b'b', b'c'],
            "RFC 9113, section 4.1"
        );
        for cut in 0..bytes.len() {
            assert_eq!(read_frame(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(read_frame(&bytes), Some((DATA, END_STREAM, 7, &b"abc"[..])));
    }

    #[test]
    fn later_headers_refer_to_the_first_newest_last() {
        let fields = [("a", "1".to_owned()), ("b", "22".to_owned())];
        let (literals, references) = hpack(&fields).expect("short");
        // RFC 7541, sections 6.2.1 and 6.1.
        assert_eq!(literals, b"\x40\x01a\x011\x40\x01b\x0222");
        assert_eq!(references, [0x80 | 63, 0x80 | 62]);
        assert!(hpack(&[("a", "x".repeat(127))]).is_err());
    }
}
