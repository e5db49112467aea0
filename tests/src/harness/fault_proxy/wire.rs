//! HTTP/1.1 messages (RFC 9112): headers are read and forwarded byte for byte, bodies are streamed.

use std::io;
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};

use super::gate::Gate;
use super::limit::Limit;

/// Larger than any S3 head.
const HEAD_BYTES: u64 = 256 * 1024;

/// The start line and headers of a message, unchanged.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) raw: Vec<u8>,
}

/// How the end of a body is determined (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// Reads a head; `None` at the end of the stream.
    pub(super) async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut reader = reader.take(HEAD_BYTES);
        let mut raw = Vec::new();
        loop {
            let before = raw.len();
            let read = reader.read_until(b'\n', &mut raw).await?;
            if read == 0 {
                let broken = || io::Error::new(io::ErrorKind::UnexpectedEof, "a head that does not end");
                return if raw.is_empty() { Ok(None) } else { Err(broken()) };
            }
            if matches!(&raw[before..], b"\r\n" | b"\n") {
                if before == 0 {
                    raw.clear();
                    continue;
                }
                return Ok(Some(Self { raw }));
            }
        }
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.raw)
    }

    /// The words of the start line: method, target and version, or version, status and reason.
    pub(super) fn start(&self) -> [String; 3] {
        let text = self.text();
        let mut words = text.lines().next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
        [(); 3].map(|()| words.next().unwrap_or_default())
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.text().lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.header(name)
            .is_some_and(|value| value.split(',').any(|it| it.trim().eq_ignore_ascii_case(token)))
    }

    pub(super) fn closes(&self) -> bool {
        let [first, _, third] = self.start();
        self.has_token("connection", "close") || first == "HTTP/1.0" || third == "HTTP/1.0"
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.has_token("expect", "100-continue")
    }

    pub(super) fn request_framing(&self) -> Framing {
        if self.has_token("transfer-encoding", "chunked") {
            return Framing::Chunked;
        }
        let length = self.header("content-length").and_then(|value| value.parse().ok());
        length.filter(|length| *length > 0).map_or(Framing::None, Framing::Length)
    }

    pub(super) fn status(&self) -> u16 {
        self.start()[1].parse().unwrap_or(0)
    }

    pub(super) fn response_framing(&self, to_head_request: bool) -> Framing {
        if to_head_request || matches!(self.status(), 100..200 | 204 | 304) {
            return Framing::None;
        }
        if self.has_token("transfer-encoding", "chunked") {
            return Framing::Chunked;
        }
        let length = self.header("content-length").and_then(|value| value.parse().ok());
        length.map_or(Framing::UntilClose, Framing::Length)
    }

    /// The same head with additional headers, each a whole line.
    pub(super) fn with_headers(&self, lines: &str) -> Self {
        let text = self.text();
        let mut raw = Vec::with_capacity(self.raw.len() + lines.len());
        for (number, line) in text.split_inclusive('\n').enumerate() {
            raw.extend_from_slice(line.as_bytes());
            if number == 0 {
                raw.extend_from_slice(lines.as_bytes());
            }
        }
        Self { raw }
    }

    /// The same head with another Content-Length, and without Expect.
    pub(super) fn with_length(&self, length: u64) -> Self {
        let text = self.text();
        let mut lines = text.split_inclusive('\n');
        let mut raw = lines.next().unwrap_or_default().as_bytes().to_vec();
        for line in lines {
            let name = line.split(':').next().unwrap_or_default();
            if !["content-length", "expect", "transfer-encoding"]
                .iter()
                .any(|it| name.eq_ignore_ascii_case(it))
            {
                if line.trim().is_empty() {
                    raw.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
                }
                raw.extend_from_slice(line.as_bytes());
            }
        }
        Self { raw }
    }
}

/// Why a body was not forwarded completely.
#[derive(Debug)]
pub(super) enum Stop {
    /// Because of a fault.
    Reset,
    /// The sending side failed.
    Sender,
    /// The receiving side failed.
    Receiver,
}

/// Faults during the transfer of a body.
#[derive(Debug, Clone, Default)]
pub(super) struct Tap {
    pub(super) flip: Option<u64>,
    pub(super) reset: Option<u64>,
    /// From this offset on, the body is read but not forwarded.
    pub(super) cut: Option<u64>,
    pub(super) hold: Option<(u64, Gate)>,
}

/// Streams a body from one side to the other. `count` is called with every number of bytes read and forwarded.
pub(super) async fn copy_body<R, W>(
    reader: &mut R,
    writer: &mut W,
    framing: Framing,
    tap: &Tap,
    limit: &Limit,
    mut count: impl FnMut(u64, u64),
) -> Result<(), Stop>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut flow = Flow { reader, writer, tap, limit, offset: 0, count: &mut count };
    match framing {
        Framing::None => flow.at_boundary().await.map(|_| ()),
        Framing::Length(length) => flow.bytes(length).await,
        Framing::UntilClose => match flow.bytes(u64::MAX).await {
            Err(Stop::Sender) => Ok(()),
            other => other,
        },
        Framing::Chunked => flow.chunks().await,
    }
}

struct Flow<'a, R, W, C> {
    reader: &'a mut R,
    writer: &'a mut W,
    tap: &'a Tap,
    limit: &'a Limit,
    offset: u64,
    count: &'a mut C,
}

impl<R, W, C> Flow<'_, R, W, C>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
    C: FnMut(u64, u64),
{
    async fn chunks(&mut self) -> Result<(), Stop> {
        loop {
            let line = self.line().await?;
            let size = String::from_utf8_lossy(&line);
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| Stop::Sender)?;
            self.bytes(size).await?;
            if size == 0 {
                // Trailers, up to the empty line.
                while self.line().await?.len() > 2 {}
                return Ok(());
            }
            self.line().await?;
        }
    }

    /// Forwards one line of chunk framing.
    async fn line(&mut self) -> Result<Vec<u8>, Stop> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(HEAD_BYTES).read_until(b'\n', &mut line).await;
        if !read.is_ok_and(|bytes| bytes > 0) {
            return Err(Stop::Sender);
        }
        if self.tap.cut.is_none() {
            self.writer.write_all(&line).await.map_err(|_| Stop::Receiver)?;
        }
        Ok(line)
    }

    async fn bytes(&mut self, length: u64) -> Result<(), Stop> {
        let end = self.offset.saturating_add(length);
        while self.offset < end {
            let next = self.at_boundary().await?.min(end);
            let piece = self.reader.fill_buf().await.map_err(|_| Stop::Sender)?;
            if piece.is_empty() {
                return Err(Stop::Sender);
            }
            let wanted = usize::try_from(next - self.offset).unwrap_or(usize::MAX);
            let piece = &piece[..piece.len().min(wanted).min(self.limit.piece())];
            let (taken, size) = (piece.len(), piece.len() as u64);
            self.limit.wait(taken).await;
            let cut = self.tap.cut.is_some_and(|cut| self.offset >= cut);
            if !cut {
                let flipped =
                    (self.tap.flip == Some(self.offset)).then(|| [&[!piece[0]], &piece[1..]].concat());
                let written = self.writer.write_all(flipped.as_deref().unwrap_or(piece)).await;
                written.map_err(|_| Stop::Receiver)?;
            }
            self.reader.consume(taken);
            self.offset += size;
            (self.count)(size, if cut { 0 } else { size });
        }
        self.at_boundary().await.map(|_| ())
    }

    /// Applies the fault due at this offset; returns the offset of the next one.
    async fn at_boundary(&mut self) -> Result<u64, Stop> {
        if self.tap.reset == Some(self.offset) {
            // The forwarded data should arrive before the reset.
            self.writer.flush().await.map_err(|_| Stop::Receiver)?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Err(Stop::Reset);
        }
        if let Some((at, gate)) = &self.tap.hold
            && *at == self.offset
        {
            gate.pass().await;
        }
        let due = [self.tap.reset, self.tap.flip, self.tap.cut, self.tap.hold.as_ref().map(|(at, _)| *at)];
        Ok(due.into_iter().flatten().filter(|at| *at > self.offset).min().unwrap_or(u64::MAX))
    }
}

/// Reads and discards a body.
pub(super) async fn drain_body(
    reader: &mut (impl AsyncBufRead + Unpin),
    framing: Framing,
    limit: &Limit,
    mut count: impl FnMut(u64),
) -> Result<(), Stop> {
    copy_body(reader, &mut tokio::io::sink(), framing, &Tap::default(), limit, |read, _| count(read)).await
}

/// Reads and discards all data until the stream ends.
pub(super) async fn drain_to_end(reader: &mut (impl AsyncRead + Unpin)) {
    // A broken stream has ended too.
    let _ = tokio::io::copy(reader, &mut tokio::io::sink()).await;
}
