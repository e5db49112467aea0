//! Content types that browsers execute.

/// Whether content of this MIME type can contain scripts that would run in the origin of this service.
pub(crate) fn is_active(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    matches!(
        subtype,
        "html" | "xml" | "xsl" | "xslt" | "javascript" | "x-javascript" | "ecmascript" | "x-ecmascript"
    ) || matches!(
        subtype,
        "x-mixed-replace" | "x-shockwave-flash" | "vnd.wap.xhtml+xml" | "hta" | "x-msdownload"
    ) || subtype.ends_with("+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_scripts_are_active_content() {
        for active in [
            "text/html",
            "TEXT/HTML; charset=utf-8",
            "image/svg+xml",
            "application/xml",
            "text/xml",
            "application/xhtml+xml",
            "text/javascript",
            "application/javascript ; x=y",
        ] {
            assert!(is_active(active), "{active}");
        }
    }

    #[test]
    fn images_and_documents_are_not_active_content() {
        for passive in ["image/png", "application/pdf", "text/plain", "video/mp4", "", "nonsense"] {
            assert!(!is_active(passive), "{passive}");
        }
    }
}
