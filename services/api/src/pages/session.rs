//! The browser's key: an API key in a cookie, for pages only. `/v1` never reads it.

use actix_web::http::header::{COOKIE, HeaderMap};

const COOKIE_NAME: &str = "retrace_key";
/// A working day, so that a browser left open does not keep the key for ever.
const COOKIE_SECONDS: u32 = 12 * 60 * 60;
/// Longest key that is taken from a form.
const KEY_BYTES_MAX: usize = 256;

/// The key in the request's cookie.
pub(super) fn key(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value)
        .filter(|value| is_key(value))
}

/// The `Set-Cookie` value that stores a key; none for a text that cannot be one. Scripts cannot read
/// the cookie, and a request that another site starts does not carry it. `https` keeps it from ever
/// leaving over plain HTTP.
pub(super) fn store(key: &str, https: bool) -> Option<String> {
    let secure = if https { "; Secure" } else { "" };
    is_key(key).then(|| {
        format!(
            "{COOKIE_NAME}={key}; Path=/; HttpOnly; SameSite=Strict; Max-Age={COOKIE_SECONDS}{secure}"
        )
    })
}

/// The `Set-Cookie` value that forgets the key.
pub(super) fn forget() -> String {
    format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// Keys are letters, digits, `_`, `-` and `.`, so that none can break out of the cookie.
fn is_key(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !text.is_empty() && text.len() <= KEY_BYTES_MAX && text.bytes().all(allowed)
}

/// Where to go after signing in: a path of this service, or the first page.
pub(super) fn destination(next: &str) -> &str {
    // A second slash or a backslash would let a browser read the rest as another host.
    let is_path = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn cookie(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(text).unwrap());
        headers
    }

    #[test]
    fn the_key_is_found_among_other_cookies() {
        assert_eq!(key(&cookie("a=1; retrace_key=rt_abc-1; b=2")), Some("rt_abc-1"));
        assert_eq!(key(&cookie("a=1; other_retrace_key=x")), None);
        assert_eq!(key(&cookie("retrace_key=")), None);
    }

    #[test]
    fn a_key_cannot_break_out_of_the_cookie() {
        assert_eq!(store("abc; Domain=evil.example", false), None);
        assert_eq!(store("abc\r\nSet-Cookie: x=1", false), None);
        assert_eq!(store(&"a".repeat(257), false), None);
        let cookie = store("rt_abc", true).unwrap();
        for part in ["HttpOnly", "SameSite=Strict", "Secure"] {
            assert!(cookie.contains(part), "{cookie}");
        }
    }

    #[test]
    fn signing_in_never_leads_to_another_site() {
        for next in ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a b", "/\n"] {
            assert_eq!(destination(next), "/", "{next:?}");
        }
        assert_eq!(destination("/ledger?kind=score"), "/ledger?kind=score");
    }
}
