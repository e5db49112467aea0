//! The `aws-chunked` encoding: a body split into frames, followed by a checksum that is computed in transit (AWS
//! Signature Version 4, `STREAMING-UNSIGNED-PAYLOAD-TRAILER`). Copies no bytes of the body and does no I/O.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};

use super::body::Watched;
use super::options::CHECKSUM_CRC64NVME;
use crate::checksum::{Crc64Hasher, Crc64Nvme};

/// Size of each frame except the last. Servers read a frame into memory before they verify it: `MinIO` accepts up to 16
/// MiB, S3 requires at least 8 KiB.
const FRAME: u64 = 64 * 1024;

/// Line ending of the framing.
const LINE_END: &str = "\r\n";

/// Encoded length of a body of `length` bytes with its checksum.
pub(super) fn encoded_length(length: u64) -> u64 {
    let whole = (length / FRAME).saturating_mul(framed(FRAME));
    let rest = match length % FRAME {
        0 => 0,
        rest => framed(rest),
    };
    let end = length_of(&end_of_body(Crc64Nvme::EMPTY));
    whole.saturating_add(rest).saturating_add(end)
}

fn framed(length: u64) -> u64 {
    length_of(&frame_header(length)) + length + length_of(LINE_END)
}

fn length_of(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

fn frame_header(length: u64) -> String {
    format!("{length:x}{LINE_END}")
}

/// The empty chunk and the trailer that end the body.
fn end_of_body(crc: Crc64Nvme) -> String {
    format!("0{LINE_END}{CHECKSUM_CRC64NVME}:{crc}{LINE_END}{LINE_END}")
}

/// The checksum of a body that is being sent: set once the body has ended successfully.
pub(super) type Trailer = Arc<OnceLock<Crc64Nvme>>;

/// The checksum that follows a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrailerCrc {
    /// That of the body.
    OfBody,
    /// Another one, which the store must refuse.
    Wrong,
}

/// The framed stream that the connection reads from.
pub(super) struct Framed {
    source: Watched,
    /// Bytes of the body that are not in a frame yet.
    unframed: u64,
    /// Bytes still missing in the open frame.
    lacking: u64,
    /// Data from the source that has not been sent yet.
    chunk: Bytes,
    next: Next,
    hasher: Crc64Hasher,
    trailer: Trailer,
    crc: TrailerCrc,
}

/// The state of the encoder.
#[derive(Clone, Copy)]
enum Next {
    Header,
    Data,
    LineEnd,
    End,
    Nothing,
}

/// Frames `source`; its checksum is set in `trailer` when it is sent.
pub(super) fn frame(source: Watched, trailer: Trailer) -> Framed {
    Framed {
        unframed: source.length(),
        source,
        lacking: 0,
        chunk: Bytes::new(),
        next: Next::Header,
        hasher: Crc64Hasher::new(),
        trailer,
        crc: TrailerCrc::OfBody,
    }
}

impl Framed {
    /// Sends this checksum after the body.
    pub(super) const fn with_crc(mut self, crc: TrailerCrc) -> Self {
        self.crc = crc;
        self
    }

    /// Polls the next bytes of the current chunk.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.chunk.is_empty() {
            match ready!(self.source.poll_next_unpin(cx)) {
                Some(Ok(chunk)) => {
                    self.hasher.update(&chunk);
                    self.chunk = chunk;
                }
                // The source checks its length: it never ends inside a chunk without an error.
                end => {
                    self.next = Next::Nothing;
                    return Poll::Ready(end);
                }
            }
        }
        let room = usize::try_from(self.lacking).unwrap_or(usize::MAX);
        let data = self.chunk.split_to(room.min(self.chunk.len()));
        self.lacking = self.lacking.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if self.lacking == 0 {
            self.next = Next::LineEnd;
        }
        Poll::Ready(Some(Ok(data)))
    }
}

impl Stream for Framed {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let bytes = match this.next {
            Next::Header if this.unframed == 0 => {
                this.next = Next::End;
                return self.poll_next(cx);
            }
            Next::Header => {
                this.lacking = this.unframed.min(FRAME);
                this.unframed -= this.lacking;
                this.next = Next::Data;
                frame_header(this.lacking).into()
            }
            Next::Data => return this.poll_data(cx),
            Next::LineEnd => {
                this.next = Next::Header;
                Bytes::from_static(LINE_END.as_bytes())
            }
            Next::End => {
                this.next = Next::Nothing;
                let actual = std::mem::take(&mut this.hasher).finish();
                let crc = match this.crc {
                    TrailerCrc::OfBody => actual,
                    TrailerCrc::Wrong => Crc64Nvme::from_u64(!actual.as_u64()),
                };
                // Not set elsewhere.
                let _ = this.trailer.set(crc);
                end_of_body(crc).into()
            }
            Next::Nothing => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(bytes)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use futures_util::stream;
    use proptest::prelude::*;

    use super::super::Body;
    use super::super::body::watch;
    use super::*;

    /// The encoded form of a body of `length` bytes that arrives as `chunks`.
    fn send(length: u64, chunks: Vec<Result<Bytes, std::io::Error>>) -> (Vec<u8>, Option<Crc64Nvme>) {
        let (watched, _progress) = watch(Body::stream(length, stream::iter(chunks)));
        let trailer = Trailer::default();
        let framed = frame(watched, Arc::clone(&trailer));
        let sent = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(async { framed.map(Result::unwrap_or_default).collect::<Vec<_>>().await.concat() });
        (sent, trailer.get().copied())
    }

    /// Decodes as a server does: the body and the trailer.
    fn decode(mut rest: &[u8]) -> (Vec<u8>, String) {
        let mut body = Vec::new();
        loop {
            let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            rest = &rest[end + 2..];
            if length == 0 {
                return (body, String::from_utf8(rest.to_vec()).unwrap());
            }
            body.extend_from_slice(&rest[..length]);
            assert_eq!(&rest[length..length + 2], b"\r\n");
            rest = &rest[length + 2..];
        }
    }

    fn bytes(length: usize) -> Bytes {
        (0..=250_u8).cycle().take(length).collect()
    }

    fn cut(bytes: &Bytes, sizes: &[usize]) -> Vec<Result<Bytes, std::io::Error>> {
        let (mut rest, mut chunks) = (bytes.clone(), Vec::new());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            chunks.push(Ok(rest.split_to((*size).min(rest.len()))));
        }
        chunks
    }

    #[test]
    fn a_small_body_is_one_chunk_with_the_published_checksum() {
        let (sent, crc) = send(9, vec![Ok(Bytes::from_static(b"123456789"))]);
        assert_eq!(sent, b"9\r\n123456789\r\n0\r\nx-amz-checksum-crc64nvme:rosUhgp5mIg=\r\n\r\n");
        assert_eq!(crc, Some(Crc64Nvme::of(b"123456789")));
    }

    #[test]
    fn an_empty_body_consists_of_its_end() {
        let (sent, crc) = send(0, vec![]);
        assert_eq!(sent, b"0\r\nx-amz-checksum-crc64nvme:AAAAAAAAAAA=\r\n\r\n");
        assert_eq!((encoded_length(0), crc), (sent.len().try_into().unwrap(), Some(Crc64Nvme::EMPTY)));
    }

    #[test]
    fn chunks_are_independent_of_the_source_chunks() {
        let frame = usize::try_from(FRAME).unwrap();
        for length in [1, 15, 16, frame - 1, frame, frame + 1, 2 * frame, 3 * frame + 4097] {
            let body = bytes(length);
            let whole = send(length.try_into().unwrap(), cut(&body, &[length]));
            let pieces = send(length.try_into().unwrap(), cut(&body, &[1, 8191, frame, 3]));
            assert!(whole == pieces, "{length}");
            assert_eq!(encoded_length(length.try_into().unwrap()), u64::try_from(whole.0.len()).unwrap());
        }
    }

    #[test]
    fn a_failed_source_never_completes_the_body() {
        let failed = || Err(std::io::Error::other("hash differs"));
        let (sent, crc) = send(6, vec![Ok(Bytes::from_static(b"abcdef")), failed()]);
        assert_eq!((sent.as_slice(), crc), (&b"6\r\n"[..], None));
        let (sent, crc) = send(6, vec![Ok(Bytes::from_static(b"abc"))]);
        assert_eq!((sent.as_slice(), crc), (&b"6\r\nabc"[..], None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_body_can_be_decoded_and_has_the_computed_length(
            length in 0_usize..300_000,
            sizes in prop::collection::vec(1_usize..100_000, 1..8),
        ) {
            let body = bytes(length);
            let (sent, crc) = send(length.try_into().unwrap(), cut(&body, &sizes));
            prop_assert_eq!(encoded_length(length.try_into().unwrap()), u64::try_from(sent.len()).unwrap());
            let (read, trailer) = decode(&sent);
            prop_assert!(read == body);
            prop_assert_eq!(crc, Some(Crc64Nvme::of(&body)));
            let expected = format!("x-amz-checksum-crc64nvme:{}\r\n\r\n", Crc64Nvme::of(&body));
            prop_assert_eq!(trailer, expected);
        }
    }
}
