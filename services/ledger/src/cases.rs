//! Review cases: what a reviewer decided to keep about a scored upload. Cases are no part of the
//! log; the upload itself lies outside the database, in the service's store of kept uploads.

use std::fmt;
use std::str::FromStr;

use provenance::{Digest, LeafIndex};

use crate::LedgerError;
use crate::connect::Ledger;
use crate::entries::{digest, leaf_index_of, to_i64};

/// Most cases of one page.
pub const PAGE_CASES_MAX: u32 = 200;
/// Longest note in characters.
pub const NOTE_CHARS_MAX: usize = 10_000;
/// Longest file name that is kept, in characters.
pub const FILE_NAME_CHARS_MAX: usize = 200;

/// The number of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaseId(i64);

impl CaseId {
    /// The case with this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a reviewer decided about a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// A model made it.
    Generated,
    /// No model made it.
    NotGenerated,
    /// It cannot be told.
    Undecided,
}

impl Decision {
    /// All decisions.
    pub const ALL: [Self; 3] = [Self::Generated, Self::NotGenerated, Self::Undecided];

    /// The decision's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::NotGenerated => "not_generated",
            Self::Undecided => "undecided",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Decision {
    type Err = LedgerError;

    fn from_str(word: &str) -> Result<Self, LedgerError> {
        Self::ALL
            .into_iter()
            .find(|decision| decision.as_str() == word)
            .ok_or(LedgerError::UnknownDecision)
    }
}

/// A case to open. The score entry must be recorded already.
#[derive(Clone, Copy, Debug)]
pub struct NewCase<'a> {
    /// The client that opens it.
    pub client: &'a str,
    /// The score entry that it is about.
    pub leaf_index: LeafIndex,
    /// SHA-256 of the upload.
    pub upload_sha256: Digest,
    /// Length of the upload.
    pub upload_bytes: u64,
    /// Opens the entry's upload commitment.
    pub upload_salt: [u8; 32],
    /// The name that the upload came with, at most [`FILE_NAME_CHARS_MAX`] characters.
    pub file_name: Option<&'a str>,
    /// What was found, as JSON.
    pub report: &'a str,
    /// The reviewer's first note, at most [`NOTE_CHARS_MAX`] characters.
    pub note: Option<&'a str>,
}

/// When and how a case was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// When, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// The client that closed it.
    pub by: String,
    /// The reviewer's decision.
    pub decision: Decision,
}

/// A note that is to be added to a case.
#[derive(Debug, Clone, Copy)]
pub struct NewCaseNote<'a> {
    /// Who writes it.
    pub author: &'a str,
    /// The text.
    pub note: &'a str,
}

/// A note of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseNote {
    /// The client that wrote it.
    pub author: String,
    /// When, in milliseconds since 1970 UTC.
    pub written_at_ms: u64,
    /// The text.
    pub note: String,
}

/// A review case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its number.
    pub id: CaseId,
    /// The client that opened it.
    pub client: String,
    /// When, in milliseconds since 1970 UTC.
    pub opened_at_ms: u64,
    /// The score entry that it is about.
    pub leaf_index: LeafIndex,
    /// SHA-256 of the upload, which stays when the upload is erased.
    pub upload_sha256: Digest,
    /// Length of the upload.
    pub upload_bytes: u64,
    /// Opens the entry's upload commitment; none once the upload is erased.
    pub upload_salt: Option<[u8; 32]>,
    /// The name that the upload came with; none once the upload is erased.
    pub file_name: Option<String>,
    /// What was found, as JSON.
    pub report: String,
    /// Whether the upload has become durable in the store.
    pub is_kept: bool,
    /// When the upload was erased.
    pub erased_at_ms: Option<u64>,
    /// How it was closed; none while it is open.
    pub closing: Option<Closing>,
}

impl Case {
    /// Whether the upload should lie in the store.
    pub fn has_upload(&self) -> bool {
        self.is_kept && self.erased_at_ms.is_none()
    }
}

/// Which cases to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaseFilter<'a> {
    /// Those of this client alone.
    pub client: Option<&'a str>,
    /// Open ones, or closed ones.
    pub open: Option<bool>,
}

/// One page of cases, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CasePage {
    /// The cases.
    pub cases: Vec<Case>,
    /// Where the next page begins, as its `before`; none when this is the last page.
    pub next: Option<CaseId>,
}

struct CaseRow {
    case_id: i64,
    client: String,
    opened_at_ms: i64,
    leaf_index: i64,
    upload_sha256: Vec<u8>,
    upload_bytes: i64,
    upload_salt: Option<Vec<u8>>,
    file_name: Option<String>,
    report: String,
    is_kept: bool,
    erased_at_ms: Option<i64>,
    closed_at_ms: Option<i64>,
    closed_by: Option<String>,
    decision: Option<String>,
}

impl TryFrom<CaseRow> for Case {
    type Error = LedgerError;

    fn try_from(row: CaseRow) -> Result<Self, LedgerError> {
        let closing = match (row.closed_at_ms, row.closed_by, row.decision) {
            (Some(at), Some(by), Some(decision)) => Some(Closing {
                at_ms: milliseconds(at),
                by,
                decision: decision.parse()?,
            }),
            _ => None,
        };
        let salt = row.upload_salt.map(<[u8; 32]>::try_from).transpose();
        Ok(Self {
            id: CaseId(row.case_id),
            client: row.client,
            opened_at_ms: milliseconds(row.opened_at_ms),
            leaf_index: leaf_index_of(row.leaf_index)?,
            upload_sha256: digest(&row.upload_sha256)?,
            upload_bytes: u64::try_from(row.upload_bytes).unwrap_or_default(),
            upload_salt: salt.map_err(|_| LedgerError::damaged("a salt that has not 32 bytes"))?,
            file_name: row.file_name,
            report: row.report,
            is_kept: row.is_kept,
            erased_at_ms: row.erased_at_ms.map(milliseconds),
            closing,
        })
    }
}

/// Times of the database lie after 1970.
fn milliseconds(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// Postgres keeps no zero character in a text, and other control characters have no place in one.
fn clean(text: &str, chars_max: usize) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
        .take(chars_max)
        .collect()
}

impl Ledger {
    /// Opens a case. The upload is not in the store yet: put it there, then call
    /// [`Ledger::case_upload_kept`]. In this order no file can lie in the store that no case names.
    ///
    /// # Errors
    /// [`LedgerError::CasesFull`] when all kept uploads together would have more than `bytes_max`
    /// bytes, [`LedgerError::NoteLength`], and when the database fails.
    pub async fn open_case(
        &self,
        case: &NewCase<'_>,
        bytes_max: u64,
    ) -> Result<CaseId, LedgerError> {
        let note = case.note.map(checked_note).transpose()?;
        let file_name = case.file_name.map(|name| clean(name, FILE_NAME_CHARS_MAX));
        let upload_bytes = to_i64(case.upload_bytes, "upload size")?;
        let mut transaction = self.pool.begin().await?;
        // Two cases that are opened at once must see one another's bytes.
        sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('retrace cases'))")
            .execute(&mut *transaction)
            .await?;
        let held = sqlx::query!(
            r#"SELECT coalesce(sum(upload_bytes), 0)::bigint AS "bytes!"
               FROM cases WHERE erased_at IS NULL"#
        )
        .fetch_one(&mut *transaction)
        .await?
        .bytes;
        refuse_over(milliseconds(held), case.upload_bytes, bytes_max)?;
        let row = sqlx::query!(
            "INSERT INTO cases
                 (client, leaf_index, upload_sha256, upload_bytes, upload_salt, file_name, report)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING case_id",
            case.client,
            to_i64(case.leaf_index.get(), "leaf index")?,
            case.upload_sha256.as_bytes(),
            upload_bytes,
            &case.upload_salt[..],
            file_name,
            case.report
        )
        .fetch_one(&mut *transaction)
        .await?;
        if let Some(note) = note {
            sqlx::query!(
                "INSERT INTO case_notes (case_id, author, note) VALUES ($1, $2, $3)",
                row.case_id,
                case.client,
                note
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(CaseId(row.case_id))
    }

    /// Refuses an upload for which there would be no room, before anything is done with it. The
    /// answer may be out of date at once: [`Ledger::open_case`] asks again.
    ///
    /// # Errors
    /// [`LedgerError::CasesFull`], and when the database fails.
    pub async fn check_case_room(
        &self,
        upload_bytes: u64,
        bytes_max: u64,
    ) -> Result<(), LedgerError> {
        let held = sqlx::query!(
            r#"SELECT coalesce(sum(upload_bytes), 0)::bigint AS "bytes!"
               FROM cases WHERE erased_at IS NULL"#
        )
        .fetch_one(&self.pool)
        .await?
        .bytes;
        refuse_over(milliseconds(held), upload_bytes, bytes_max)
    }

    /// Records that the upload of a case is durable in the store.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn case_upload_kept(&self, id: CaseId) -> Result<(), LedgerError> {
        sqlx::query!(
            "UPDATE cases SET kept_at = now() WHERE case_id = $1 AND erased_at IS NULL",
            id.0
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records that the upload of a case was erased, and forgets what belongs to it: its name and
    /// the salt. Call it after the file is gone: a crash between the two leaves a case whose file
    /// is missing, which erasing again repairs.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn case_upload_erased(&self, id: CaseId) -> Result<(), LedgerError> {
        sqlx::query!(
            "UPDATE cases SET erased_at = now(), upload_salt = NULL, file_name = NULL
             WHERE case_id = $1 AND erased_at IS NULL",
            id.0
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// One case; none where there is no such.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn case(&self, id: CaseId) -> Result<Option<Case>, LedgerError> {
        let row = sqlx::query_as!(
            CaseRow,
            r#"SELECT case_id, client, leaf_index, upload_sha256, upload_bytes, upload_salt,
                      file_name, report, kept_at IS NOT NULL AS "is_kept!", closed_by, decision,
                      (extract(epoch FROM opened_at) * 1000)::bigint AS "opened_at_ms!",
                      (extract(epoch FROM erased_at) * 1000)::bigint AS erased_at_ms,
                      (extract(epoch FROM closed_at) * 1000)::bigint AS closed_at_ms
               FROM cases WHERE case_id = $1"#,
            id.0
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(Case::try_from).transpose()
    }

    /// The notes of a case, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn case_notes(&self, id: CaseId) -> Result<Vec<CaseNote>, LedgerError> {
        let rows = sqlx::query!(
            r#"SELECT author, note,
                      (extract(epoch FROM written_at) * 1000)::bigint AS "written_at_ms!"
               FROM case_notes WHERE case_id = $1 ORDER BY note_id"#,
            id.0
        )
        .fetch_all(&self.pool)
        .await?;
        let notes = rows.into_iter().map(|row| CaseNote {
            author: row.author,
            written_at_ms: milliseconds(row.written_at_ms),
            note: row.note,
        });
        Ok(notes.collect())
    }

    /// One page of cases, newest first, from below `before`.
    ///
    /// # Errors
    /// Refuses pages of no cases or of more than [`PAGE_CASES_MAX`].
    pub async fn list_cases(
        &self,
        filter: &CaseFilter<'_>,
        before: Option<CaseId>,
        limit: u32,
    ) -> Result<CasePage, LedgerError> {
        if limit == 0 || limit > PAGE_CASES_MAX {
            return Err(LedgerError::CasePageSize {
                page_cases_max: PAGE_CASES_MAX,
            });
        }
        let client = filter.client.filter(|client| !client.contains('\0'));
        if client.is_none() && filter.client.is_some() {
            return Ok(CasePage {
                cases: Vec::new(),
                next: None,
            });
        }
        let mut rows = sqlx::query_as!(
            CaseRow,
            r#"SELECT case_id, client, leaf_index, upload_sha256, upload_bytes, upload_salt,
                      file_name, report, kept_at IS NOT NULL AS "is_kept!", closed_by, decision,
                      (extract(epoch FROM opened_at) * 1000)::bigint AS "opened_at_ms!",
                      (extract(epoch FROM erased_at) * 1000)::bigint AS erased_at_ms,
                      (extract(epoch FROM closed_at) * 1000)::bigint AS closed_at_ms
               FROM cases
               WHERE case_id < $1
                 AND ($2::text IS NULL OR client = $2)
                 AND ($3::boolean IS NULL OR (closed_at IS NULL) = $3)
               ORDER BY case_id DESC LIMIT $4"#,
            before.map_or(i64::MAX, CaseId::get),
            client as Option<&str>,
            filter.open as Option<bool>,
            i64::from(limit) + 1
        )
        .fetch_all(&self.pool)
        .await?;
        // One more than asked for tells whether there is a next page.
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let cases = rows
            .into_iter()
            .map(Case::try_from)
            .collect::<Result<Vec<_>, _>>()?;
        let next = cases.last().filter(|_| more).map(|case| case.id);
        Ok(CasePage { cases, next })
    }

    /// Adds a note to a case, open or closed.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchCase`], [`LedgerError::NoteLength`], [`LedgerError::CaseNotesFull`].
    pub async fn add_case_note(
        &self,
        id: CaseId,
        new: NewCaseNote<'_>,
        notes_max: u32,
    ) -> Result<(), LedgerError> {
        let note = checked_note(new.note)?;
        let mut transaction = self.pool.begin().await?;
        // Two notes at once must see one another; the row's lock makes the second wait.
        let case = sqlx::query!(
            "SELECT case_id FROM cases WHERE case_id = $1 FOR UPDATE",
            id.0
        );
        if case.fetch_optional(&mut *transaction).await?.is_none() {
            return Err(LedgerError::NoSuchCase);
        }
        let count = sqlx::query!(
            r#"SELECT count(*) AS "notes!" FROM case_notes WHERE case_id = $1"#,
            id.0
        )
        .fetch_one(&mut *transaction)
        .await?
        .notes;
        if count >= i64::from(notes_max) {
            return Err(LedgerError::CaseNotesFull { notes_max });
        }
        sqlx::query!(
            "INSERT INTO case_notes (case_id, author, note) VALUES ($1, $2, $3)",
            id.0,
            new.author,
            note
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Closes an open case with the reviewer's decision.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchCase`], and [`LedgerError::CaseClosed`] when somebody decided before.
    pub async fn close_case(
        &self,
        id: CaseId,
        by: &str,
        decision: Decision,
    ) -> Result<(), LedgerError> {
        let done = sqlx::query!(
            "UPDATE cases SET closed_at = now(), closed_by = $2, decision = $3
             WHERE case_id = $1 AND closed_at IS NULL",
            id.0,
            by,
            decision.as_str()
        )
        .execute(&self.pool)
        .await?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        match self.case(id).await? {
            Some(_) => Err(LedgerError::CaseClosed),
            None => Err(LedgerError::NoSuchCase),
        }
    }
}

fn refuse_over(held: u64, more: u64, bytes_max: u64) -> Result<(), LedgerError> {
    if held.saturating_add(more) > bytes_max {
        return Err(LedgerError::CasesFull { held, bytes_max });
    }
    Ok(())
}

/// A note without surrounding space and control characters.
fn checked_note(note: &str) -> Result<String, LedgerError> {
    let refused = LedgerError::NoteLength {
        chars_max: NOTE_CHARS_MAX,
    };
    if note.chars().count() > NOTE_CHARS_MAX {
        return Err(refused);
    }
    let note = clean(note.trim(), NOTE_CHARS_MAX);
    if note.is_empty() {
        return Err(refused);
    }
    Ok(note)
}
