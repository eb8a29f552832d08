//! API keys of clients: random, shown once, kept as a SHA-256 digest.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use provenance::Digest;

use crate::LedgerError;
use crate::connect::Ledger;

/// Keys begin with this, so that people and scanners recognise one that leaked.
const KEY_PREFIX: &str = "retrace_";
/// 256 random bits: no search finds one, so a plain fast digest at rest is enough.
const KEY_RANDOM_BYTES: usize = 32;
/// Longest key that is looked at.
const KEY_BYTES_MAX: usize = 128;
/// Longest name of a client; entries state it.
const NAME_CHARS_MAX: usize = 100;

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Generate images. Whoever has it makes us sign that an image was generated here.
    Generate,
    /// Score uploads.
    Score,
    /// Read entries and proofs that are not public.
    Audit,
    /// Manage clients and erase prompts.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Generate, Self::Score, Self::Audit, Self::Admin];

    /// The scope's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Score => "score",
            Self::Audit => "audit",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = LedgerError;

    fn from_str(word: &str) -> Result<Self, LedgerError> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == word)
            .ok_or_else(|| LedgerError::UnknownScope {
                word: word.chars().take(NAME_CHARS_MAX).collect(),
            })
    }
}

/// The identity of a client's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(i64);

impl ClientId {
    /// The client with this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Who sent a request, by a valid key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The key's identity.
    pub id: ClientId,
    /// The client's name, which entries state.
    pub name: String,
    /// What the key allows.
    pub scopes: Vec<Scope>,
}

impl Client {
    /// Whether the key allows this.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// A key as the list of keys shows it. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientKey {
    /// Identity, name and scopes.
    pub client: Client,
    /// When it was made.
    pub created_at_ms: i64,
    /// When it was last used, to about a minute.
    pub last_used_at_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_at_ms: Option<i64>,
}

impl Ledger {
    /// Makes a key. The answer holds the key itself, which is shown once and never kept.
    ///
    /// # Errors
    /// Refuses a name that has a valid key already or that entries cannot state, and no scopes.
    pub async fn create_client(
        &self,
        name: &str,
        scopes: &[Scope],
    ) -> Result<(ClientId, String), LedgerError> {
        if name.is_empty()
            || name.chars().count() > NAME_CHARS_MAX
            || name.contains(char::is_control)
        {
            return Err(LedgerError::ClientName {
                chars_max: NAME_CHARS_MAX,
            });
        }
        if scopes.is_empty() {
            return Err(LedgerError::NoScopes);
        }
        let mut random = [0; KEY_RANDOM_BYTES];
        getrandom::fill(&mut random).expect("the operating system has randomness");
        let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let digest = Digest::of(key.as_bytes());
        let words: Vec<String> = scopes.iter().map(Scope::to_string).collect();
        let row = sqlx::query!(
            "INSERT INTO clients (name, key_sha256, scopes) VALUES ($1, $2, $3)
             RETURNING client_id",
            name,
            digest.as_bytes(),
            &words
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| match LedgerError::from(error) {
            error if error.constraint() == Some("clients_name_unique") => {
                LedgerError::ClientNameTaken
            }
            error => error,
        })?;
        Ok((ClientId(row.client_id), key))
    }

    /// The client of a valid key; none for unknown and revoked ones.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn authenticate(&self, key: &str) -> Result<Option<Client>, LedgerError> {
        if !key.starts_with(KEY_PREFIX) || key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        let digest = Digest::of(key.as_bytes());
        let row = sqlx::query!(
            r#"SELECT client_id, name, scopes,
                      coalesce(last_used_at < now() - interval '1 minute', true) AS "is_stale!"
               FROM clients WHERE key_sha256 = $1 AND revoked_at IS NULL"#,
            digest.as_bytes()
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        if row.is_stale {
            // At most one write a minute and key, so that reading stays reading.
            sqlx::query!(
                "UPDATE clients SET last_used_at = now() WHERE client_id = $1",
                row.client_id
            )
            .execute(&self.pool)
            .await?;
        }
        Ok(Some(client(row.client_id, row.name, &row.scopes)?))
    }

    /// All keys, revoked ones too, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_clients(&self) -> Result<Vec<ClientKey>, LedgerError> {
        let rows = sqlx::query!(
            r#"SELECT client_id, name, scopes,
                      (extract(epoch FROM created_at) * 1000)::bigint AS "created_at_ms!",
                      (extract(epoch FROM last_used_at) * 1000)::bigint AS last_used_at_ms,
                      (extract(epoch FROM revoked_at) * 1000)::bigint AS revoked_at_ms
               FROM clients ORDER BY client_id"#
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(ClientKey {
                    client: client(row.client_id, row.name, &row.scopes)?,
                    created_at_ms: row.created_at_ms,
                    last_used_at_ms: row.last_used_at_ms,
                    revoked_at_ms: row.revoked_at_ms,
                })
            })
            .collect()
    }

    /// Whether any valid key exists. Without one the service keeps to itself.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_clients(&self) -> Result<bool, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT EXISTS (SELECT FROM clients WHERE revoked_at IS NULL) AS "has_clients!""#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(row.has_clients)
    }

    /// Makes a key invalid from now on.
    ///
    /// # Errors
    /// When there is no valid key of this identity.
    pub async fn revoke_client(&self, id: ClientId) -> Result<(), LedgerError> {
        let done = sqlx::query!(
            "UPDATE clients SET revoked_at = now() WHERE client_id = $1 AND revoked_at IS NULL",
            id.0
        )
        .execute(&self.pool)
        .await?;
        match done.rows_affected() {
            0 => Err(LedgerError::NoSuchClient),
            _ => Ok(()),
        }
    }
}

fn client(id: i64, name: String, words: &[String]) -> Result<Client, LedgerError> {
    Ok(Client {
        id: ClientId(id),
        name,
        scopes: words
            .iter()
            .map(|word| word.parse())
            .collect::<Result<_, _>>()?,
    })
}
