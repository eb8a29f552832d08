//! The browser's key: an API key in a cookie. [`crate::access`] reads it.

use crate::access::KEY_COOKIE as COOKIE_NAME;

/// A working day, so that a browser left open does not keep the key for ever.
const COOKIE_SECONDS: u32 = 12 * 60 * 60;
/// Longest key that is taken from a form.
const KEY_BYTES_MAX: usize = 256;

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
        && next
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for next in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "",
            "/a b",
            "/\n",
        ] {
            assert_eq!(destination(next), "/", "{next:?}");
        }
        assert_eq!(destination("/ledger?kind=score"), "/ledger?kind=score");
    }
}
