//! A streaming parser for `multipart/form-data` (RFC 7578, RFC 2046 section 5.1). The content of a part is returned as
//! slices of the received chunks, without copying; at most one chunk, or the header of a part, is buffered. A part ends
//! only at its delimiter: a length in its header is ignored.

use actix_web::error::PayloadError;
use actix_web::http::header::{
    CONTENT_DISPOSITION, CONTENT_TYPE, ContentDisposition, HeaderMap, HeaderName, HeaderValue,
};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use memchr::memmem::Finder;

/// Maximum length of a boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY_LENGTH: usize = 70;
/// Maximum length of the header of a part, in bytes, including the line before it.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Maximum number of header fields of a part.
const MAX_HEADER_FIELDS: usize = 32;
/// Maximum number of ignored bytes before the first part or after the last one.
const MAX_IGNORED_BYTES: usize = 64 * 1024;
/// Ends the header of a part.
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// Why a form could not be parsed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormError {
    /// The request is not a form.
    #[error("its Content-Type is not multipart/form-data with a boundary")]
    NoForm,
    /// The connection was closed, or the request was framed incorrectly.
    #[error("{0}")]
    Broken(#[from] PayloadError),
    /// The request ended before the form did.
    #[error("it ends before its closing boundary")]
    Incomplete,
    /// The form is malformed.
    #[error("{0}")]
    Malformed(&'static str),
}

/// The header of a part.
#[derive(Debug)]
pub(super) struct Head {
    /// `Content-Disposition`; always `form-data`.
    pub(super) disposition: ContentDisposition,
    /// `Content-Type`, if a valid one was sent.
    pub(super) content_type: Option<mime::Mime>,
}

/// A form that is being received.
pub(super) struct Form<S> {
    stream: S,
    /// Received bytes that have not been returned yet.
    buffer: Bytes,
    /// A line break, two dashes and the boundary.
    delimiter: Finder<'static>,
    place: Place,
}

/// The state of the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a delimiter.
    Content,
    /// Right after one.
    Delimiter,
    /// After the closing one.
    End,
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Form<S> {
    /// A form from the headers and the body of a request.
    pub(super) fn new(headers: &HeaderMap, stream: S) -> Result<Self, FormError> {
        let boundary = boundary(headers).ok_or(FormError::NoForm)?;
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first delimiter needs no line break before it.
        Ok(Self { stream, buffer: Bytes::from_static(b"\r\n"), delimiter, place: Place::Content })
    }

    /// The next part, skipping the rest of the current one; `None` at the end.
    pub(super) async fn next_part(&mut self) -> Result<Option<Head>, FormError> {
        let mut skipped = 0_usize;
        while let Some(bytes) = self.chunk().await? {
            skipped = skipped.saturating_add(bytes.len());
            if skipped > MAX_IGNORED_BYTES {
                return Err(FormError::Malformed("no part starts within its first 64 KiB"));
            }
        }
        if self.place == Place::Delimiter { self.head().await } else { Ok(None) }
    }

    /// The next bytes of the current part; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, FormError> {
        while self.place == Place::Content {
            if self.buffer.is_empty() {
                self.buffer = self.receive().await?;
            }
            if let Some(at) = self.delimiter.find(&self.buffer) {
                let last = self.buffer.split_to(at);
                self.buffer.advance(self.delimiter.needle().len());
                self.place = Place::Delimiter;
                return Ok((!last.is_empty()).then_some(last));
            }
            let safe = self.buffer.len() - self.begun_delimiter();
            if safe > 0 {
                return Ok(Some(self.buffer.split_to(safe)));
            }
            if let Some(bytes) = self.settle().await? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Buffered bytes of the current part and of what follows it; `None` if the part has ended.
    pub(super) fn held_content(&self) -> Option<u64> {
        (self.place == Place::Content).then(|| u64::try_from(self.buffer.len()).unwrap_or(u64::MAX))
    }

    /// The number of bytes with which a form usually ends after its last part: the closing delimiter on a line.
    pub(super) fn usual_end(&self) -> u64 {
        u64::try_from(self.delimiter.needle().len() + b"--\r\n".len()).unwrap_or(u64::MAX)
    }

    /// Length of the suffix of the buffer that may be the start of a delimiter.
    fn begun_delimiter(&self) -> usize {
        // A delimiter contains one carriage return: its first byte. Only the last one in the buffer can have started a
        // delimiter.
        let last = memchr::memrchr(b'\r', &self.buffer).and_then(|at| self.buffer.get(at..));
        last.filter(|end| self.delimiter.needle().starts_with(end)).map_or(0, <[u8]>::len)
    }

    /// The buffer may be the start of a delimiter: the following bytes decide. Returns it if it is not.
    async fn settle(&mut self) -> Result<Option<Bytes>, FormError> {
        let mut next = self.receive().await?;
        let missing = self.delimiter.needle().get(self.buffer.len()..).unwrap_or_default();
        let compared = missing.len().min(next.len());
        if next.get(..compared) != missing.get(..compared) {
            return Ok(Some(std::mem::replace(&mut self.buffer, next)));
        }
        if compared == missing.len() {
            next.advance(compared);
            self.place = Place::Delimiter;
            self.buffer = next;
        } else {
            self.buffer = joined(&self.buffer, &next);
        }
        Ok(None)
    }

    /// Continues after a delimiter: the header of a part, or the end.
    async fn head(&mut self) -> Result<Option<Head>, FormError> {
        self.hold(2).await?;
        if self.buffer.starts_with(b"--") {
            self.place = Place::End;
            return self.drain().await.map(|()| None);
        }
        let mut searched = 0;
        let end = loop {
            // White space may follow the boundary on its line.
            if let Some(at) =
                memchr::memmem::find(self.buffer.get(searched..).unwrap_or_default(), BLANK_LINE)
            {
                break searched + at;
            }
            if self.buffer.len() > MAX_HEADER_BYTES {
                return Err(FormError::Malformed("the header of a part is too long"));
            }
            searched = self.buffer.len().saturating_sub(BLANK_LINE.len() - 1);
            self.hold(self.buffer.len() + 1).await?;
        };
        let head = self.buffer.split_to(end + BLANK_LINE.len());
        self.place = Place::Content;
        parse_head(&head).map(Some)
    }

    /// Reads until the buffer contains `length` bytes.
    async fn hold(&mut self, length: usize) -> Result<(), FormError> {
        while self.buffer.len() < length {
            let next = self.receive().await?;
            self.buffer = if self.buffer.is_empty() { next } else { joined(&self.buffer, &next) };
        }
        Ok(())
    }

    /// The epilogue is ignored, but must be read before the connection can be reused.
    async fn drain(&mut self) -> Result<(), FormError> {
        let mut skipped = std::mem::take(&mut self.buffer).len();
        while let Some(next) = self.stream.next().await {
            skipped = skipped.saturating_add(next?.len());
            if skipped > MAX_IGNORED_BYTES {
                return Err(FormError::Malformed("more than 64 KiB follow its closing boundary"));
            }
        }
        Ok(())
    }

    /// Reads more bytes of the request, at least one.
    async fn receive(&mut self) -> Result<Bytes, FormError> {
        loop {
            match self.stream.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => return Ok(chunk),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(FormError::Incomplete),
            }
        }
    }
}

/// The boundary of a form (RFC 2046 section 5.1.1).
fn boundary(headers: &HeaderMap) -> Option<String> {
    let content_type: mime::Mime = headers.get(CONTENT_TYPE)?.to_str().ok()?.parse().ok()?;
    if content_type.essence_str() != mime::MULTIPART_FORM_DATA.essence_str() {
        return None;
    }
    let boundary = content_type.get_param(mime::BOUNDARY)?.as_str();
    let sound = (1..=MAX_BOUNDARY_LENGTH).contains(&boundary.len())
        && boundary.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte))
        && !boundary.ends_with(' ');
    sound.then(|| boundary.to_owned())
}

/// Parses the header of a part: the rest of the delimiter's line, header fields, a blank line.
fn parse_head(head: &[u8]) -> Result<Head, FormError> {
    const MALFORMED: FormError = FormError::Malformed("the header of a part is malformed");
    let padding = head.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let fields = head.get(padding..).and_then(|rest| rest.strip_prefix(b"\r\n")).ok_or(MALFORMED)?;
    let mut raw = [httparse::EMPTY_HEADER; MAX_HEADER_FIELDS];
    let Ok(httparse::Status::Complete((_, raw))) = httparse::parse_headers(fields, &mut raw) else {
        return Err(MALFORMED);
    };
    let (mut disposition, mut content_type) = (None, None);
    for field in raw {
        match HeaderName::from_bytes(field.name.as_bytes()) {
            Ok(name) if name == CONTENT_DISPOSITION => {
                let value = HeaderValue::from_bytes(field.value).map_err(|_| MALFORMED)?;
                let parsed = ContentDisposition::from_raw(&value);
                disposition =
                    Some(parsed.map_err(|_| {
                        FormError::Malformed("the Content-Disposition of a part is malformed")
                    })?);
            }
            Ok(name) if name == CONTENT_TYPE => {
                let text = std::str::from_utf8(field.value).ok();
                content_type = text.and_then(|text| text.parse().ok());
            }
            _ => {}
        }
    }
    let disposition = disposition.filter(ContentDisposition::is_form_data);
    let disposition = disposition.filter(|disposition| disposition.get_name().is_some());
    let disposition =
        disposition.ok_or(FormError::Malformed("a part lacks Content-Disposition: form-data with a name"))?;
    Ok(Head { disposition, content_type })
}

fn joined(first: &[u8], next: &[u8]) -> Bytes {
    let mut both = BytesMut::with_capacity(first.len() + next.len());
    both.extend_from_slice(first);
    both.extend_from_slice(next);
    both.freeze()
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    type Chunks = stream::Iter<std::vec::IntoIter<Result<Bytes, PayloadError>>>;

    fn headers(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        headers
    }

    /// A form with the boundary `sep` that arrives in chunks of `size` bytes.
    fn form(raw: &[u8], size: usize) -> Form<Chunks> {
        let chunks: Vec<_> = raw.chunks(size.max(1)).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Form::new(&headers("multipart/form-data; boundary=sep"), stream::iter(chunks)).unwrap()
    }

    /// The name and content of each part.
    async fn read(mut form: Form<Chunks>) -> Result<Vec<(String, Vec<u8>)>, FormError> {
        let mut parts = Vec::new();
        while let Some(head) = form.next_part().await? {
            let mut content = Vec::new();
            while let Some(bytes) = form.chunk().await? {
                assert!(!bytes.is_empty());
                content.extend_from_slice(&bytes);
            }
            parts.push((head.disposition.get_name().unwrap().to_owned(), content));
        }
        Ok(parts)
    }

    fn raw(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut raw = Vec::new();
        for (name, content) in parts {
            raw.extend_from_slice(
                format!("--sep\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(),
            );
            raw.extend_from_slice(content);
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"--sep--\r\n");
        raw
    }

    #[actix_web::test]
    async fn content_similar_to_a_delimiter_is_preserved() {
        let tricky: &[&[u8]] = &[
            b"",
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\n-",
            b"\r\n--",
            b"\r\n--se",
            b"--sep",
            b"\r\r\n--se",
            b"\r\n\r\n--so",
            b"x\r\n--sex\r\n--se",
            b"\n--sep--",
            b"\r\n--\r\n--\r",
        ];
        for content in tricky {
            for size in 1..40 {
                let parts = read(form(&raw(&[("a", content), ("b", b"y")]), size)).await.unwrap();
                assert_eq!(
                    parts,
                    [("a".to_owned(), content.to_vec()), ("b".to_owned(), b"y".to_vec())],
                    "{size}"
                );
            }
        }
    }

    #[actix_web::test]
    async fn a_length_in_a_part_header_is_ignored() {
        let raw = b"--sep\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Length: 1\r\n\r\nall of it\r\n--sep--\r\n";
        assert_eq!(read(form(raw, 7)).await.unwrap(), [("a".to_owned(), b"all of it".to_vec())]);
    }

    #[actix_web::test]
    async fn preamble_epilogue_and_white_space_are_ignored() {
        let raw =
            b"hello\r\n--sep \t \r\ncontent-disposition: form-data; name=a\r\n\r\nx\r\n--sep--  \r\nbye";
        for size in 1..20 {
            assert_eq!(read(form(raw, size)).await.unwrap(), [("a".to_owned(), b"x".to_vec())], "{size}");
        }
    }

    #[actix_web::test]
    async fn the_bytes_of_a_part_are_not_copied() {
        let raw = Bytes::from(raw(&[("a", &vec![7; 100_000])]));
        let within = raw.as_ptr_range();
        let one = stream::iter([Ok(raw)]);
        let mut form = Form::new(&headers("multipart/form-data; boundary=sep"), one).unwrap();
        form.next_part().await.unwrap();
        let chunk = form.chunk().await.unwrap().unwrap();
        assert_eq!((chunk.len(), within.contains(&chunk.as_ptr())), (100_000, true));
    }

    #[actix_web::test]
    async fn a_form_truncated_anywhere_is_an_error() {
        let whole = raw(&[("a", b"some\r\ncontent"), ("b", b"")]);
        let end = whole.len() - "\r\n".len();
        for cut in 0..end {
            let outcome = read(form(&whole[..cut], 5)).await;
            assert!(matches!(outcome, Err(FormError::Incomplete)), "{cut}: {outcome:?}");
        }
        assert!(read(form(&whole[..end], 5)).await.is_ok());
    }

    #[actix_web::test]
    async fn malformed_missing_and_endless_part_headers_are_rejected() {
        let long = format!("--sep\r\nX: {}\r\n\r\nx\r\n--sep--\r\n", "y".repeat(MAX_HEADER_BYTES));
        let many = format!("--sep\r\n{}\r\nx\r\n--sep--\r\n", "X: y\r\n".repeat(MAX_HEADER_FIELDS + 1));
        for raw in [
            "--sep\r\n\r\nx\r\n--sep--\r\n",
            "--sepx\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--sep--\r\n",
            "--sep\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--sep--\r\n",
            "--sep\r\nContent-Disposition: form-data\r\n\r\nx\r\n--sep--\r\n",
            "--sep\r\nContent-Disposition; form-data\r\n\r\nx\r\n--sep--\r\n",
            long.as_str(),
            many.as_str(),
        ] {
            let outcome = read(form(raw.as_bytes(), 1000)).await;
            assert!(matches!(outcome, Err(FormError::Malformed(_))), "{raw:.60}: {outcome:?}");
        }
    }

    #[actix_web::test]
    async fn preamble_and_epilogue_are_limited() {
        let aside = vec![b'x'; MAX_IGNORED_BYTES + 1];
        for raw in
            [[aside.as_slice(), b"\r\n--sep--\r\n"].concat(), [b"--sep--\r\n", aside.as_slice()].concat()]
        {
            assert!(matches!(read(form(&raw, 4096)).await, Err(FormError::Malformed(_))));
        }
    }

    #[test]
    fn only_forms_with_a_valid_boundary_are_accepted() {
        let long = format!("multipart/form-data; boundary={}", "x".repeat(MAX_BOUNDARY_LENGTH + 1));
        for wrong in [
            "text/plain",
            "multipart/mixed; boundary=sep",
            "multipart/form-data",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=\"a\\\"b\"",
            long.as_str(),
        ] {
            assert_eq!(boundary(&headers(wrong)), None, "{wrong}");
        }
        assert_eq!(boundary(&HeaderMap::new()), None);
        let quoted = headers("Multipart/Form-Data; charset=utf-8; boundary=\"a b'()+_,-./:=?z\"");
        assert_eq!(boundary(&quoted).as_deref(), Some("a b'()+_,-./:=?z"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_content_is_preserved_in_any_chunks(
            contents in prop::collection::vec(prop::collection::vec(prop::sample::select(&b"\r\n-sepx"[..]), 0..300), 1..4),
            size in 1_usize..200,
        ) {
            prop_assume!(contents.iter().all(|content| memchr::memmem::find(content, b"\r\n--sep").is_none()));
            let parts: Vec<(&str, &[u8])> = contents.iter().map(|content| ("a", content.as_slice())).collect();
            let read = futures_util::FutureExt::now_or_never(read(form(&raw(&parts), size)));
            let found: Vec<Vec<u8>> = read.unwrap().unwrap().into_iter().map(|(_, content)| content).collect();
            prop_assert_eq!(found, contents);
        }
    }
}
