//! `Content-Disposition` for downloads (RFC 6266), safe for names in any language.

use nightferry_api_types::file::Disposition;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The `attr-char` of RFC 8187 is not encoded.
const EXTENDED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The header value: ASCII only. A name that cannot be represented in ASCII is added as `filename*`, which takes
/// precedence in clients that support it (section 4.3).
pub(crate) fn header(disposition: Disposition, filename: &str) -> String {
    let kind = match disposition {
        Disposition::Inline => "inline",
        Disposition::Attachment => "attachment",
    };
    // Percent signs and backslashes are interpreted inconsistently (appendix D).
    let plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%');
    let fallback: String = filename.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    if fallback == filename {
        return format!("{kind}; filename=\"{filename}\"");
    }
    format!("{kind}; filename=\"{fallback}\"; filename*=UTF-8''{}", utf8_percent_encode(filename, EXTENDED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_quoted() {
        assert_eq!(header(Disposition::Attachment, "a b.txt"), "attachment; filename=\"a b.txt\"");
        assert_eq!(header(Disposition::Inline, "it's;.txt"), "inline; filename=\"it's;.txt\"");
    }

    #[test]
    fn other_names_get_an_ascii_fallback_and_an_encoded_name() {
        assert_eq!(
            header(Disposition::Attachment, "Übergröße €.txt"),
            "attachment; filename=\"_bergr__e _.txt\"; filename*=UTF-8''%C3%9Cbergr%C3%B6%C3%9Fe%20%E2%82%AC.txt"
        );
        assert_eq!(
            header(Disposition::Inline, "a\"b.txt"),
            "inline; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"
        );
        assert_eq!(
            header(Disposition::Inline, "50%.txt"),
            "inline; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"
        );
    }

    #[test]
    fn names_cannot_inject_headers() {
        for name in ["a\r\nSet-Cookie: x", "a\0b", "\u{7f}", "\u{202e}txt", "日本語"] {
            let header = header(Disposition::Attachment, name);
            assert!(header.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{header}");
        }
    }
}
