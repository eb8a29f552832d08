use provenance::{
    CheckpointKeySuccessionEntry, Entry, Envelope, KeyHistory, KeyRequest, LeafIndex,
};

use super::*;

const ORIGIN: &str = "test.local/log";
/// The old key signs along until then.
const UNTIL_MS: u64 = 100;

fn open(state: &Path) -> Keys {
    Keys::open(state, ORIGIN, &Vault::default()).unwrap()
}

/// What the log says once its first entry has named the next key.
fn succeeded(keys: &Keys, next: &CheckpointSigner) -> KeyHistory {
    let request = KeyRequest {
        request_id: "1".to_owned(),
        created_at_ms: 1,
        client: "operator".to_owned(),
    };
    let statement = CheckpointKeySuccessionEntry::new(request, &keys.checkpoint, next, UNTIL_MS);
    let entry = Entry::CheckpointKeySuccession(statement.unwrap());
    let envelope = Envelope::sign(&entry, &keys.entries).unwrap();
    let mut history = KeyHistory::new(&keys.public);
    history.take(&envelope, LeafIndex::new(0)).unwrap();
    history
}

/// Opens the keys and settles them at this time; the keys that are there, the current one first.
fn settled(state: &Path, log: &KeyHistory, now_ms: u64) -> Vec<String> {
    let mut keys = open(state);
    let place = KeyPlace {
        state,
        vault: &Vault::default(),
        now_ms,
    };
    keys.settle(place, log).unwrap();
    let again = open(state);
    // What names the log stays.
    assert_eq!(
        again.public.checkpoint,
        log.checkpoints().keys()[0].verifier
    );
    assert_eq!(again.checkpoint.verifier(), keys.checkpoint.verifier());
    let held = [&again.checkpoint]
        .into_iter()
        .chain(&again.other_checkpoints);
    held.map(|held| held.verifier().key_id()).collect()
}

#[test]
fn whatever_a_crash_leaves_of_a_change_the_log_goes_on_with_the_key_that_it_names() {
    let state = tempfile::tempdir().unwrap();
    let (state, vault) = (state.path(), Vault::default());
    let keys = open(state);
    let old = keys.checkpoint.verifier().key_id();
    let unchanged = KeyHistory::new(&keys.public);
    // Behind step 2: the next key is there, and the log knows nothing of it.
    let next = keys.prepare_next_checkpoint(state, &vault).unwrap();
    let new = next.verifier().key_id();
    assert_eq!(settled(state, &unchanged, 1), [&old[..], &new]);
    let taken = keys.prepare_next_checkpoint(state, &vault).unwrap();
    assert_eq!(taken.verifier(), next.verifier());
    // Behind step 3, with each beginning of steps 4 and 5.
    let log = succeeded(&keys, &next);
    let folder = state.join("keys");
    let file = |name: &str| folder.join(name);
    let seeds: Vec<Vec<u8>> = [CHECKPOINT_FILE, CHECKPOINT_NEXT_FILE]
        .map(|name| fs::read(file(name)).unwrap())
        .into();
    for left in [
        [Some(0), Some(1), None],
        [Some(0), Some(1), Some(0)],
        [Some(1), Some(1), Some(0)],
        [Some(1), None, Some(0)],
    ] {
        for (name, seed) in SECRETS.into_iter().zip(left) {
            match seed {
                Some(seed) => write_whole(&file(name), &seeds[seed], true).unwrap(),
                None => drop(fs::remove_file(file(name))),
            }
        }
        let signers = open(state).checkpoint_signers(&Config::new(state.to_owned()));
        let held = format!("{signers:?}");
        assert!(
            held.contains(&old) && held.contains(&new),
            "{left:?}: {held}"
        );
        assert_eq!(settled(state, &log, 1), [&new[..], &old], "{left:?}");
        assert!(!file(CHECKPOINT_NEXT_FILE).exists());
    }
    // Step 6, and once more.
    assert_eq!(settled(state, &log, UNTIL_MS), [&new[..]]);
    assert!(!file(CHECKPOINT_OLD_FILE).exists());
    assert_eq!(settled(state, &log, UNTIL_MS), [&new[..]]);
}

const SECRETS: [&str; 3] = [CHECKPOINT_FILE, CHECKPOINT_NEXT_FILE, CHECKPOINT_OLD_FILE];

#[test]
fn a_log_whose_key_is_not_here_is_refused() {
    let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut keys = open(state.path());
    let next = keys.prepare_next_checkpoint(elsewhere.path(), &Vault::default());
    assert!(next.is_err(), "there is no folder of keys");
    let foreign = open(elsewhere.path()).checkpoint;
    let log = succeeded(&keys, &foreign);
    let place = KeyPlace {
        state: state.path(),
        vault: &Vault::default(),
        now_ms: 1,
    };
    let refused = keys.settle(place, &log).unwrap_err();
    assert!(
        matches!(refused, KeyError::OtherCheckpointKey { .. }),
        "{refused}"
    );
    assert!(state.path().join("keys").join(CHECKPOINT_FILE).exists());
}

#[test]
fn a_key_that_is_made_later_is_found_by_a_service_that_runs() {
    let state = tempfile::tempdir().unwrap();
    let keys = open(state.path());
    let folder = state.path().join("keys");
    let next = keys.prepare_next_checkpoint(state.path(), &Vault::default());
    let next = next.unwrap().verifier();
    let found = find(&folder, ORIGIN, None, &next).unwrap();
    assert_eq!(found.unwrap().verifier(), next);
    let stranger = CheckpointSigner::from_seed(ORIGIN, [9; 32])
        .unwrap()
        .verifier();
    assert!(find(&folder, ORIGIN, None, &stranger).unwrap().is_none());
}
