//! API keys of clients.

use ledger::{ClientId, LedgerError, Scope};

use crate::support::TestLog;

#[tokio::test]
async fn a_key_opens_what_its_scopes_say_until_it_is_revoked() {
    let log = TestLog::start().await;
    assert!(!log.ledger.has_clients().await.unwrap());
    let scopes = [Scope::Generate, Scope::Audit];
    let (id, key) = log.ledger.create_client("studio", &scopes).await.unwrap();
    let client = log.ledger.authenticate(&key).await.unwrap().unwrap();
    assert_eq!((client.id, client.name.as_str()), (id, "studio"));
    assert!(client.may(Scope::Generate) && client.may(Scope::Audit));
    assert!(!client.may(Scope::Score) && !client.may(Scope::Admin));
    assert!(log.ledger.has_clients().await.unwrap());
    log.ledger.revoke_client(id).await.unwrap();
    assert_eq!(log.ledger.authenticate(&key).await.unwrap(), None);
    let again = log.ledger.revoke_client(id).await;
    assert!(matches!(again, Err(LedgerError::NoSuchClient)), "{again:?}");
    let [listed] = &log.ledger.list_clients().await.unwrap()[..] else {
        panic!("one key was made");
    };
    assert!(listed.last_used_at_ms.is_some() && listed.revoked_at_ms.is_some());
    log.finish().await;
}

#[tokio::test]
async fn an_unknown_key_opens_nothing() {
    let log = TestLog::start().await;
    let (_, key) = log
        .ledger
        .create_client("studio", &[Scope::Admin])
        .await
        .unwrap();
    let cut = &key[..key.len() - 1];
    let long = format!("{key}{}", "x".repeat(10_000));
    for wrong in ["", "retrace_", cut, long.as_str(), "' OR true --", "\0"] {
        assert_eq!(
            log.ledger.authenticate(wrong).await.unwrap(),
            None,
            "{wrong:?}"
        );
    }
    log.finish().await;
}

#[tokio::test]
async fn a_name_has_one_valid_key_and_is_free_again_after_it() {
    let log = TestLog::start().await;
    let (id, _) = log
        .ledger
        .create_client("studio", &[Scope::Score])
        .await
        .unwrap();
    let taken = log.ledger.create_client("studio", &[Scope::Score]).await;
    assert!(
        matches!(taken, Err(LedgerError::ClientNameTaken)),
        "{taken:?}"
    );
    log.ledger.revoke_client(id).await.unwrap();
    let (next, _) = log
        .ledger
        .create_client("studio", &[Scope::Score])
        .await
        .unwrap();
    assert_ne!(next, id);
    let unknown = log.ledger.revoke_client(ClientId::new(1_000_000)).await;
    assert!(
        matches!(unknown, Err(LedgerError::NoSuchClient)),
        "{unknown:?}"
    );
    log.finish().await;
}

#[tokio::test]
async fn names_and_scopes_that_mean_nothing_are_refused() {
    let log = TestLog::start().await;
    for name in ["", "two\nlines", &"x".repeat(101)] {
        let refused = log.ledger.create_client(name, &[Scope::Score]).await;
        assert!(
            matches!(refused, Err(LedgerError::ClientName { .. })),
            "{refused:?}"
        );
    }
    let refused = log.ledger.create_client("studio", &[]).await;
    assert!(matches!(refused, Err(LedgerError::NoScopes)), "{refused:?}");
    assert!(matches!(
        "root".parse::<Scope>(),
        Err(LedgerError::UnknownScope { .. })
    ));
    log.finish().await;
}

#[tokio::test]
async fn no_key_is_kept_in_the_database() {
    let log = TestLog::start().await;
    let (_, key) = log
        .ledger
        .create_client("studio", &[Scope::Score])
        .await
        .unwrap();
    let (kept,): (String,) = sqlx::query_as("SELECT clients::text FROM clients")
        .fetch_one(&mut log.superuser().await)
        .await
        .unwrap();
    let secret = key.strip_prefix("retrace_").unwrap();
    assert!(!kept.contains(secret));
    assert!(!kept.contains(&hex::encode(secret)));
    log.finish().await;
}
