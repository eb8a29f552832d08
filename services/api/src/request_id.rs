//! Each request has an id: in its answer, in its problems, in the log and in its entry.

/// Random bytes of an id: enough that ids of one client never meet.
const BYTES: usize = 12;

tokio::task_local! {
    static CURRENT: String;
}

/// A new id, `req-` and 24 hexadecimal digits.
#[must_use]
pub fn draw() -> String {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    format!("req-{}", hex::encode(bytes))
}

/// The id of the request that is being answered; empty outside of one.
#[must_use]
pub fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// The id of the request that is being answered, or a new one outside of one.
#[must_use]
pub fn current_or_new() -> String {
    Some(current())
        .filter(|id| !id.is_empty())
        .unwrap_or_else(draw)
}

/// Runs a future as the answering of the request with this id.
pub async fn scope<F: Future>(request_id: String, future: F) -> F::Output {
    CURRENT.scope(request_id, future).await
}
