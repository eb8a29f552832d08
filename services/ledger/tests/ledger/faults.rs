//! Kills at random points under load, and errors injected at each durable step.
//!
//! `cargo xtask faults` runs the kills two hundred times.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ledger::cluster::{ClusterOptions, PrivateCluster};
use ledger::sequencer::{CheckpointSigners, Sequencer, SequencerOptions};
use ledger::{Ledger, LedgerError, LedgerOptions};
use provenance::{
    CheckpointKeySuccessionEntry, CheckpointSigner, CheckpointVerifier, Entry, Envelope,
    KeyRequest, LeafIndex, SignedCheckpoint, TreeSize,
};

use crate::cluster::{kill_server, temporary_folder};
use crate::random::{Random, from_environment};
use crate::support::{
    ORIGIN, Running, TestLog, binaries, checkpoint_signer, entry_signer, numbered, public_keys,
};

/// Tells a child process of a test where to work.
const CHILD: &str = "LEDGER_TEST_FAULTS";
/// Tells it the number of its first entry.
const FIRST: &str = "LEDGER_TEST_FAULTS_FIRST";
const KILLS: u64 = 6;
const APPENDERS: usize = 16;
/// More than one service appends before it is killed.
const NUMBERS_OF_A_SERVICE: usize = 1_000_000;
/// Nobody gives the lease of a killed sequencer back.
const LEASE: Duration = Duration::from_millis(300);
/// How often the file of acknowledgements is read.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// The longest time between the last acknowledgement that was counted and the kill: a few batches.
const JITTER_MS: u64 = 60;

/// Tells it to change the checkpoint key again and again.
const CHANGES_KEYS: &str = "LEDGER_TEST_FAULTS_CHANGES_KEYS";
/// A log holds little more statements about keys than these.
const KEYS_MAX: u64 = 60;
/// Kills of one log whose key changes: each sees one change or two.
const KILLS_OF_A_LOG: u64 = 20;
/// How soon after one change of the key the next one is tried.
const CHANGE_INTERVAL: Duration = Duration::from_millis(500);

/// Where everything of a run lies, and whether the checkpoint key changes in it.
struct Place {
    folder: PathBuf,
    changes_keys: bool,
}

impl Place {
    fn cluster(&self) -> ClusterOptions {
        ClusterOptions::new(binaries(), self.folder.join("postgres"))
    }

    fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    fn acknowledgements(&self) -> PathBuf {
        self.folder.join("acknowledgements")
    }

    /// The changes of the key that were acknowledged: which key follows, and where the log says so.
    fn changes(&self) -> PathBuf {
        self.folder.join("changes")
    }

    /// A line for each change that somebody began.
    fn begun(&self) -> PathBuf {
        self.folder.join("begun")
    }

    async fn connect(&self, cluster: &PrivateCluster) -> Ledger {
        let url = cluster.database_url(PrivateCluster::DATABASE);
        let mut options = LedgerOptions::new(url, public_keys());
        options.poll_interval = Duration::from_millis(50);
        options.append_timeout = Duration::from_secs(60);
        options.connect_timeout = Duration::from_secs(60);
        loop {
            match Ledger::connect(&options).await {
                Ok(ledger) => return ledger,
                // It may just be starting again after a kill.
                Err(error) if error.is_transient() => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn sequencer(&self, ledger: &Ledger) -> Sequencer {
        let options = SequencerOptions {
            poll_interval: Duration::from_millis(20),
            retry_interval: Duration::from_millis(20),
            lease_duration: LEASE,
            ..SequencerOptions::default()
        };
        let signers = CheckpointSigners::from(checkpoint_signer()).or_find(signer_of);
        Sequencer::with_options(ledger.clone(), signers, self.store(), options)
    }

    /// Starts a service that appends until it is killed.
    fn service(&self, first: usize) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "faults::child_appends_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD, &self.folder)
            .env(FIRST, first.to_string())
            .env(CHANGES_KEYS, u8::from(self.changes_keys).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// How many entries were acknowledged.
    fn acknowledged(&self) -> usize {
        let text = fs::read_to_string(self.acknowledgements()).unwrap_or_default();
        text.lines().count()
    }

    /// Waits until somebody begins to change the key.
    async fn until_a_change_begins(&self, service: &mut Child) {
        let begun = || fs::read_to_string(self.begun()).unwrap_or_default().len();
        let before = begun();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        while begun() == before {
            let ended = service.try_wait().unwrap();
            assert_eq!(ended, None, "the service ended by itself");
            look.tick().await;
        }
    }

    /// Waits until the service has acknowledged so many more.
    async fn until_acknowledged(&self, more: usize, service: &mut Child) {
        let wanted = self.acknowledged() + more;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        while self.acknowledged() < wanted {
            assert_eq!(
                service.try_wait().unwrap(),
                None,
                "the service ended by itself"
            );
            look.tick().await;
        }
    }
}

/// The checkpoint key of this number; the first one is that of all tests.
fn numbered_signer(number: u64) -> CheckpointSigner {
    if number == 0 {
        return checkpoint_signer();
    }
    let mut seed = [77; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    CheckpointSigner::from_seed(ORIGIN, seed).unwrap()
}

/// The signer of a key that the log names.
fn signer_of(key: &CheckpointVerifier) -> Option<CheckpointSigner> {
    let mut signers = (0..KEYS_MAX).map(numbered_signer);
    signers.find(|signer| signer.verifier() == *key)
}

/// Names another checkpoint key again and again, as an operator would who is killed in the middle: each time it asks
/// the log how far it is, and notes what was acknowledged.
async fn change_keys(ledger: Ledger, place: Place) {
    let open = |path| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
    };
    let (mut changes, mut begun) = (open(place.changes()), open(place.begun()));
    let mut pace = tokio::time::interval(CHANGE_INTERVAL);
    loop {
        pace.tick().await;
        let Ok(history) = ledger.key_history().await else {
            continue;
        };
        let number = history.checkpoints().keys().len() as u64;
        if number == KEYS_MAX {
            return;
        }
        let (old, new) = (numbered_signer(number - 1), numbered_signer(number));
        let request = KeyRequest {
            request_id: format!("change {number}"),
            created_at_ms: 1_700_000_900_000,
            client: "operator".to_owned(),
        };
        // Every other key signs along for a while that is over before the next change.
        let along_ms = if number.is_multiple_of(2) { 0 } else { 40 };
        let until_ms = now_ms() + along_ms;
        let change = CheckpointKeySuccessionEntry::new(request, &old, &new, until_ms).unwrap();
        let entry = Entry::CheckpointKeySuccession(change);
        let envelope = Envelope::sign(&entry, &entry_signer()).unwrap();
        begun.write_all(b"begun\n").unwrap();
        if let Ok(appended) = ledger.append(&envelope, None).await {
            let line = format!("{number} {}\n", appended.leaf_index);
            changes.write_all(line.as_bytes()).unwrap();
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Not a test of its own: the service that [`kills_at_random_points_lose_nothing`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_appends_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    // A proof that does not verify ends the process, which whoever kills it notices.
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    let first = usize::try_from(from_environment(FIRST, 0)).unwrap();
    let place = Place {
        folder: folder.into(),
        changes_keys: from_environment(CHANGES_KEYS, 0) == 1,
    };
    let cluster = loop {
        match PrivateCluster::start_or_attach(&place.cluster()).await {
            Ok(cluster) => break cluster,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let ledger = place.connect(&cluster).await;
    let sequencer = tokio::spawn(place.sequencer(&ledger).run(std::future::pending()));
    let acknowledgements = OpenOptions::new()
        .create(true)
        .append(true)
        .open(place.acknowledgements())
        .unwrap();
    let acknowledgements = Arc::new(acknowledgements);
    let next = Arc::new(AtomicUsize::new(first));
    if place.changes_keys {
        tokio::spawn(change_keys(ledger.clone(), place));
    }
    for _ in 0..APPENDERS {
        let (ledger, next) = (ledger.clone(), Arc::clone(&next));
        let acknowledgements = Arc::clone(&acknowledgements);
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                append_and_note(&ledger, number, &acknowledgements).await;
            }
        });
    }
    // It ends only by an error that nobody but a person can repair, which is no state to go on in.
    let ended = sequencer.await;
    panic!("the sequencer ended: {ended:?}");
}

/// Appends until it is acknowledged, checks the proof, and notes what was promised in one write.
async fn append_and_note(ledger: &Ledger, number: usize, mut acknowledgements: &fs::File) {
    loop {
        let Ok(appended) = ledger.append(&numbered(number), None).await else {
            tokio::task::yield_now().await;
            continue;
        };
        appended.bundle.verify(&public_keys()).unwrap();
        let note = appended.bundle.checkpoint().text().replace('\n', "\\n");
        let line = format!("{number} {} {note}\n", appended.leaf_index);
        acknowledgements.write_all(line.as_bytes()).unwrap();
        return;
    }
}

/// What was promised: places by number, and every checkpoint that was shown.
fn promises(place: &Place) -> (BTreeMap<usize, LeafIndex>, BTreeSet<String>) {
    let text = fs::read_to_string(place.acknowledgements()).unwrap();
    let (mut places, mut notes) = (BTreeMap::new(), BTreeSet::new());
    // The last line may have been cut by a kill: then nobody was told.
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        let mut parts = line.trim_end_matches('\n').splitn(3, ' ');
        let mut part = || parts.next().unwrap();
        let number = part().parse().unwrap();
        let leaf_index = LeafIndex::new(part().parse().unwrap());
        let before = places.insert(number, leaf_index);
        assert_eq!(before, None, "entry {number} was acknowledged twice");
        notes.insert(part().replace("\\n", "\n"));
    }
    (places, notes)
}

#[tokio::test]
async fn kills_at_random_points_lose_nothing() {
    let kills = from_environment("RETRACE_FAULT_KILLS", KILLS);
    kill_at_random_points(fault_seed(), kills, false).await;
}

#[tokio::test]
async fn kills_in_the_middle_of_changes_of_the_checkpoint_key_lose_nothing_and_halve_no_change() {
    // A log holds so many changes only, so that there are several.
    let mut kills = from_environment("RETRACE_FAULT_KILLS", KILLS).div_ceil(5);
    // Each log has other random points.
    let mut seed = fault_seed();
    while kills > 0 {
        let of_this_log = kills.min(KILLS_OF_A_LOG);
        kill_at_random_points(seed, of_this_log, true).await;
        kills -= of_this_log;
        seed = seed.wrapping_add(1);
    }
}

fn fault_seed() -> u64 {
    from_environment("RETRACE_FAULT_SEED", 1)
}

async fn kill_at_random_points(seed: u64, kills: u64, changes_keys: bool) {
    let mut random = Random::new(seed);
    let folder = temporary_folder();
    let place = Place {
        folder: folder.path().to_owned(),
        changes_keys,
    };
    // Held all the time, so that killed services leave the server to somebody.
    let cluster = PrivateCluster::start_or_attach(&place.cluster())
        .await
        .unwrap();
    let mut stored = BTreeSet::new();
    let (mut of_service, mut of_postgres) = (0, 0);
    let mut first = 0;
    let mut service = place.service(first);
    for _ in 0..kills {
        let more = usize::try_from(1 + random.below(3 * APPENDERS as u64)).unwrap();
        place.until_acknowledged(more, &mut service).await;
        if changes_keys {
            place.until_a_change_begins(&mut service).await;
        }
        // Not to wait for anything, but to hit every step of a batch.
        let jitter = Duration::from_millis(random.below(JITTER_MS));
        let _ = tokio::time::timeout(jitter, std::future::pending::<()>()).await;
        if random.below(2) == 0 {
            service.kill().unwrap();
            service.wait().unwrap();
            of_service += 1;
            first += NUMBERS_OF_A_SERVICE;
            service = place.service(first);
        } else {
            kill_server(cluster.home());
            of_postgres += 1;
        }
        // What was signed may never have been published.
        stored.extend(fs::read_to_string(place.store().join("checkpoint")));
    }
    place.until_acknowledged(APPENDERS, &mut service).await;
    service.kill().unwrap();
    service.wait().unwrap();
    let acknowledged = check_promises(&place, &cluster, stored).await;
    eprintln!(
        "{of_service} kills of the service and {of_postgres} of postgres (seed {seed}): \
         {acknowledged} acknowledged entries, none lost, no gap, no duplicate, no inconsistent checkpoint"
    );
    if changes_keys {
        check_changes(&place, &cluster).await;
    }
    cluster.stop().await.unwrap();
}

/// Every acknowledged change stands where it was said to be, and each key follows the one before it once. A change that a
/// kill had broken off was recorded whole all the same, or tried again.
async fn check_changes(place: &Place, cluster: &PrivateCluster) {
    let ledger = place.connect(cluster).await;
    let history = ledger.key_history().await.unwrap();
    let keys = history.checkpoints().keys();
    for (number, key) in (0..).zip(keys) {
        assert_eq!(key.verifier, numbered_signer(number).verifier());
        let next = keys.get(usize::try_from(number).unwrap() + 1);
        // A key signs the trees up to the entry that names the next one.
        assert_eq!(
            key.until,
            next.map(|next| TreeSize::new(next.from.get() - 1))
        );
    }
    let text = fs::read_to_string(place.changes()).unwrap();
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let mut acknowledged = 0;
    for line in whole {
        let (number, place) = line.trim_end().split_once(' ').unwrap();
        let (number, place): (usize, u64) = (number.parse().unwrap(), place.parse().unwrap());
        assert_eq!(keys[number].from.get(), place + 1, "change {number}");
        acknowledged += 1;
    }
    assert!(acknowledged > 0, "no change was acknowledged");
    eprintln!(
        "{} changes of the checkpoint key, {acknowledged} of them acknowledged: each whole, in one order",
        keys.len() - 1
    );
    ledger.close().await;
}

/// Lets a last sequencer finish, and compares the whole ledger with everything that was promised.
async fn check_promises(
    place: &Place,
    cluster: &PrivateCluster,
    stored: BTreeSet<String>,
) -> usize {
    let ledger = place.connect(cluster).await;
    let last = Running::start(place.sequencer(&ledger));
    // Recorded behind everything that the killed services queued.
    ledger.append(&numbered(usize::MAX), None).await.unwrap();
    last.stop().await;
    let (places, mut notes) = promises(place);
    notes.extend(stored);
    let signed: Vec<SignedCheckpoint> = notes
        .iter()
        .map(|note| SignedCheckpoint::parse(note).unwrap())
        .collect();
    let report = ledger.check_against(&signed).await.unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.covered, report.entries);
    let mut walk = ledger
        .walk(ledger::EntryFilter::default(), None)
        .await
        .unwrap();
    let mut recorded = BTreeMap::new();
    loop {
        let page = walk.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        for entry in page {
            let before = recorded.insert(entry.leaf_hash, entry.leaf_index);
            assert_eq!(
                before, None,
                "entry {} stands there twice",
                entry.leaf_index
            );
        }
    }
    assert_eq!(recorded.len() as u64, report.entries.get());
    for (number, leaf_index) in &places {
        let found = recorded.get(&numbered(*number).leaf_hash());
        assert_eq!(
            found,
            Some(leaf_index),
            "entry {number} is not where it was said to be"
        );
    }
    ledger.close().await;
    places.len()
}

/// Statements after which inserting into a table fails, as if the disk had an error.
fn fail_inserts(table: &str) -> String {
    format!(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'could not write block' USING ERRCODE = 'io_error'; END $$;
         CREATE TRIGGER fail BEFORE INSERT ON {table} EXECUTE FUNCTION fail()"
    )
}

/// Statements after which committing what was inserted into a table fails.
fn fail_commits(table: &str) -> String {
    format!(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'could not flush' USING ERRCODE = 'io_error'; END $$;
         CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON {table}
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()"
    )
}

#[tokio::test]
async fn an_error_of_the_database_at_any_durable_step_acknowledges_nothing_and_loses_nothing() {
    for statements in [
        fail_inserts("entries"),
        fail_inserts("nodes"),
        fail_inserts("checkpoints"),
        fail_commits("entries"),
        fail_commits("checkpoints"),
    ] {
        let log = TestLog::start().await;
        let sequencer = log.sequencer();
        log.append_numbered(0..3).await;
        log.break_in(&statements).await;
        let ledger = log.ledger.clone();
        let append = tokio::spawn(async move { ledger.append(&numbered(3), None).await });
        let failure = sequencer.failure().await;
        assert!(
            matches!(failure, LedgerError::Database(_)),
            "{statements}: {failure:?}"
        );
        assert!(!append.is_finished(), "{statements}");
        log.break_in(
            "DROP FUNCTION fail CASCADE; UPDATE sequencer_lease SET expires_at = '-infinity'",
        )
        .await;
        let sequencer = log.sequencer();
        let appended = append.await.unwrap().unwrap();
        assert_eq!(appended.leaf_index, LeafIndex::new(3), "{statements}");
        log.append_numbered(4..6).await;
        sequencer.stop().await;
        log.finish().await;
    }
}

#[tokio::test]
async fn an_error_of_the_queue_is_told_and_queues_nothing() {
    for statements in [
        fail_inserts("pending"),
        fail_inserts("prompts"),
        fail_commits("pending"),
    ] {
        let (log, sequencer) = TestLog::running().await;
        log.break_in(&statements).await;
        let secret = Some(crate::support::secret());
        let refused = log.ledger.append(&numbered(0), secret).await;
        assert!(
            matches!(refused, Err(LedgerError::Database(_))),
            "{statements}: {refused:?}"
        );
        log.break_in("DROP FUNCTION fail CASCADE").await;
        log.append_numbered(1..3).await;
        sequencer.stop().await;
        assert_eq!(
            log.ledger.check().await.unwrap().entries.get(),
            2,
            "{statements}"
        );
        log.finish().await;
    }
}

/// Each way in which keeping the last signed checkpoint can fail, and what makes it work again.
type StoreFault = (&'static str, fn(&Path), fn(&Path));

const STORE_FAULTS: [StoreFault; 5] = [
    (
        "the write finds no room",
        |store| symlink("/dev/full", store.join("checkpoint.next")).unwrap(),
        |store| fs::remove_file(store.join("checkpoint.next")).unwrap(),
    ),
    (
        "the flush fails",
        // A device that takes every byte and cannot be flushed.
        |store| symlink("/dev/null", store.join("checkpoint.next")).unwrap(),
        |store| fs::remove_file(store.join("checkpoint.next")).unwrap(),
    ),
    (
        "the file cannot be made",
        |store| fs::create_dir(store.join("checkpoint.next")).unwrap(),
        |store| fs::remove_dir(store.join("checkpoint.next")).unwrap(),
    ),
    (
        "the lock cannot be taken",
        |store| {
            fs::remove_file(store.join("lock")).unwrap();
            fs::create_dir(store.join("lock")).unwrap();
        },
        |store| fs::remove_dir(store.join("lock")).unwrap(),
    ),
    (
        "the old checkpoint cannot be read",
        |store| {
            fs::rename(store.join("checkpoint"), store.join("aside")).unwrap();
            fs::create_dir(store.join("checkpoint")).unwrap();
        },
        |store| {
            fs::remove_dir(store.join("checkpoint")).unwrap();
            fs::rename(store.join("aside"), store.join("checkpoint")).unwrap();
        },
    ),
];

#[tokio::test]
async fn an_error_of_the_checkpoint_store_at_any_step_acknowledges_nothing_and_loses_nothing() {
    for (what, break_it, heal) in STORE_FAULTS {
        let log = TestLog::start().await;
        let store = log.store.path().join("store");
        let fast = |options: &mut SequencerOptions| options.lease_duration = LEASE;
        let sequencer = log.sequencer_with(fast);
        log.append_numbered(0..3).await;
        let published = log.ledger.latest_checkpoint().await.unwrap();
        break_it(&store);
        let ledger = log.ledger.clone();
        let append = tokio::spawn(async move { ledger.append(&numbered(3), None).await });
        if what == "the write finds no room" {
            // A full disk passes, so the sequencer tries again for ever; the entry is recorded, and
            // neither published nor acknowledged.
            let mut connection = log.superuser().await;
            crate::support::until(async || {
                let query = "SELECT count(*) FROM entries";
                let (count,): (i64,) = sqlx::query_as(query)
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                count == 4
            })
            .await;
            assert!(!append.is_finished(), "{what}");
            assert_eq!(
                log.ledger.latest_checkpoint().await.unwrap(),
                published,
                "{what}"
            );
            heal(&store);
            assert_eq!(
                append.await.unwrap().unwrap().leaf_index,
                LeafIndex::new(3),
                "{what}"
            );
            sequencer.stop().await;
        } else {
            let failure = sequencer.failure().await;
            assert!(
                matches!(failure, LedgerError::Io { .. }),
                "{what}: {failure:?}"
            );
            assert!(!append.is_finished(), "{what}");
            assert_eq!(
                log.ledger.latest_checkpoint().await.unwrap(),
                published,
                "{what}"
            );
            heal(&store);
            let sequencer = log.sequencer();
            assert_eq!(
                append.await.unwrap().unwrap().leaf_index,
                LeafIndex::new(3),
                "{what}"
            );
            log.append_numbered(4..6).await;
            sequencer.stop().await;
        }
        log.finish().await;
    }
}
