//! Who calls, and what they may do.
//!
//! A caller shows an API key, as `Authorization: Bearer KEY`, as the password of HTTP Basic
//! authentication (any user name) or, in a browser, in a cookie.
//! While the ledger knows no key at all, callers on loopback addresses may do everything under
//! the name `local`: that is the service on one person's machine. The service refuses to listen
//! on other addresses then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, ORIGIN};
use actix_web::{FromRequest, HttpRequest, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::Scope;

use crate::problem::{Problem, kinds};
use crate::state::AppState;

/// Name of the cookie in which a browser holds its key.
pub const KEY_COOKIE: &str = "retrace_key";

/// Name of the caller on a service without keys.
pub const LOCAL_CLIENT: &str = "local";

/// Headers that a proxy adds: a request with one of them did not start on this machine.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The client's name, as entries state it.
    pub client: String,
    scopes: Vec<Scope>,
    /// Whether the service knows keys.
    pub keys_exist: bool,
}

impl Caller {
    /// The caller on a service without keys, and of the command line: everything is allowed.
    #[must_use]
    pub fn local() -> Self {
        let scopes = Scope::ALL.to_vec();
        Self {
            client: LOCAL_CLIENT.to_owned(),
            scopes,
            keys_exist: false,
        }
    }

    /// Whether the caller may do this. `admin` includes the other scopes.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Refuses a caller without this scope.
    ///
    /// # Errors
    /// A problem that names the missing scope.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) {
            return Ok(());
        }
        let has: Vec<&str> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        let (scope, has) = (scope.as_str(), has.join(", "));
        let detail = format!(
            "this needs the scope {scope}; the key of {} has: {has}",
            self.client
        );
        Err(Problem::new(kinds::MISSING_SCOPE, detail))
    }
}

/// Finds out who calls.
///
/// # Errors
/// 401 for a missing or unknown key, 403 for requests that a browser sent from another site.
pub async fn identify(state: &Arc<AppState>, request: &HttpRequest) -> Result<Caller, Problem> {
    let headers = request.headers();
    let shown = authorization(headers)?;
    if let Some(Shown::Bearer(key)) = &shown {
        return by_key(state, key).await;
    }
    // From here on it may be a browser that adds passwords, cookies or loopback rights by itself.
    if !is_safe(request.method()) && is_cross_site(headers) {
        let detail = "a browser sent this from a page of another site";
        return Err(Problem::new(kinds::CROSS_SITE, detail));
    }
    if let Some(Shown::Password(key)) = &shown {
        return by_key(state, key).await;
    }
    if let Some(key) = cookie(headers) {
        return by_key(state, key).await;
    }
    let ledger = state.ledger.clone();
    let keys_exist = state
        .run(async move { Ok(ledger.has_clients().await?) })
        .await?;
    if keys_exist {
        let detail = "send an API key as `Authorization: Bearer KEY`";
        return Err(Problem::new(kinds::UNAUTHORIZED, detail));
    }
    if is_local(request) {
        return Ok(Caller::local());
    }
    let detail = "without any client key only this machine itself may call, by a loopback address; \
                  make a key with `retrace key client`";
    Err(Problem::new(kinds::UNAUTHORIZED, detail))
}

async fn by_key(state: &Arc<AppState>, key: &str) -> Result<Caller, Problem> {
    let (ledger, key) = (state.ledger.clone(), key.to_owned());
    let client = state
        .run(async move { Ok(ledger.authenticate(&key).await?) })
        .await?;
    match client {
        Some(client) => Ok(Caller {
            client: client.name,
            scopes: client.scopes,
            keys_exist: true,
        }),
        None => Err(Problem::new(
            kinds::UNAUTHORIZED,
            "the key is not known, or was revoked",
        )),
    }
}

/// A key as a header shows it.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Bearer(String),
    Password(String),
}

fn authorization(headers: &HeaderMap) -> Result<Option<Shown>, Problem> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let shown = value.to_str().ok().and_then(|text| {
        let (scheme, key) = text.split_once(' ')?;
        let key = key.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() {
            Some(Shown::Bearer(key.to_owned()))
        } else if scheme.eq_ignore_ascii_case("basic") {
            password(key).map(Shown::Password)
        } else {
            None
        }
    });
    let detail = "the Authorization header must be `Bearer KEY`, or Basic with the key as password";
    let refused = || Problem::new(kinds::UNAUTHORIZED, detail);
    shown.map(Some).ok_or_else(refused)
}

/// The password of HTTP Basic authentication (RFC 7617), unless it is empty.
fn password(credentials: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (_, password) = pair.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == KEY_COOKIE && !value.is_empty())
        .map(|(_, value)| value)
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a browser says that another site sent this. Programs send neither header.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    match (text(ORIGIN.as_str()), text(HOST.as_str())) {
        (Some(origin), host) => {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_none() || authority != host
        }
        (None, _) => false,
    }
}

/// Whether the request started on this machine: a loopback peer, no proxy in between, and a host
/// name that no outside name server can hand out (else a page elsewhere could point its own name
/// at this machine).
fn is_local(request: &HttpRequest) -> bool {
    let loopback = request
        .peer_addr()
        .is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let headers = request.headers();
    let proxied = FORWARDED.iter().any(|name| headers.contains_key(*name));
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or(request.uri().host());
    loopback && !proxied && host.is_some_and(is_local_name)
}

fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let state = request.app_data::<web::Data<AppState>>().cloned();
        let request = request.clone();
        Box::pin(async move {
            let state = state.expect("start-up registers the state with every worker");
            identify(&state.into_inner(), &request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn local(host: &str) -> TestRequest {
        let peer = "127.0.0.1:40000".parse().unwrap();
        TestRequest::get()
            .peer_addr(peer)
            .insert_header((HOST, host))
    }

    #[test]
    fn local_calls_are_those_from_this_machine_by_its_own_names() {
        for host in [
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "LOCALHOST",
        ] {
            assert!(is_local(&local(host).to_http_request()), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:8080",
            "10.0.0.1",
            "",
        ] {
            assert!(!is_local(&local(host).to_http_request()), "{host}");
        }
        let proxied = local("localhost").insert_header(("X-Forwarded-For", "198.51.100.7"));
        assert!(!is_local(&proxied.to_http_request()));
        let far = TestRequest::get()
            .peer_addr("198.51.100.7:40000".parse().unwrap())
            .insert_header((HOST, "localhost"));
        assert!(!is_local(&far.to_http_request()));
    }

    #[test]
    fn a_browser_that_speaks_for_another_site_is_recognised() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut request = TestRequest::post();
            for pair in pairs {
                request = request.insert_header(*pair);
            }
            is_cross_site(request.to_http_request().headers())
        };
        assert!(headers(&[("sec-fetch-site", "cross-site")]));
        assert!(headers(&[
            ("origin", "http://evil.example"),
            ("host", "localhost:8080")
        ]));
        assert!(headers(&[("origin", "null"), ("host", "localhost:8080")]));
        assert!(!headers(&[("sec-fetch-site", "same-origin")]));
        assert!(!headers(&[
            ("origin", "http://localhost:8080"),
            ("host", "localhost:8080")
        ]));
        assert!(!headers(&[]));
    }

    #[test]
    fn a_missing_scope_is_named() {
        let caller = Caller {
            client: "press".to_owned(),
            scopes: vec![Scope::Score],
            keys_exist: true,
        };
        assert!(caller.require(Scope::Score).is_ok());
        let problem = caller.require(Scope::Generate).unwrap_err();
        assert_eq!(problem.kind.status, 403);
        assert!(problem.detail.contains("generate"), "{problem}");
        assert!(Caller::local().may(Scope::Admin));
    }

    #[test]
    fn keys_are_read_from_header_and_cookie() {
        let request = TestRequest::get()
            .insert_header((AUTHORIZATION, "bearer rk_1"))
            .insert_header((COOKIE, "a=b; retrace_key=rk_2"))
            .to_http_request();
        let bearer = Shown::Bearer("rk_1".to_owned());
        assert_eq!(authorization(request.headers()).unwrap(), Some(bearer));
        assert_eq!(cookie(request.headers()), Some("rk_2"));
        let shown = |value: &str| {
            let request = TestRequest::get().insert_header((AUTHORIZATION, value));
            authorization(request.to_http_request().headers())
        };
        let basic = format!("Basic {}", STANDARD.encode("studio:rk_3"));
        let password = Shown::Password("rk_3".to_owned());
        assert_eq!(shown(&basic).unwrap(), Some(password));
        for refused in [
            "Basic x",
            "Basic",
            "Bearer ",
            "Digest a",
            "Basic c3R1ZGlvOg==",
        ] {
            assert_eq!(shown(refused).unwrap_err().kind.status, 401, "{refused}");
        }
    }
}
