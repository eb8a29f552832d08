//! Which witnesses are believed, and how many of them a checkpoint needs, by C2SP tlog-policy.
//!
//! ```text
//! witness north witness.example/north+1b0c8e4f+BA…  https://witness.example/north
//! witness south witness.example/south+92a1f0c3+BA…
//! group both all north south
//! quorum both
//! ```
//!
//! A name stands for a witness, or for a group of which a number must have cosigned. Each name may be a
//! member once, so that nobody counts twice.

use std::collections::BTreeMap;

use super::WitnessVerifier;
use crate::encoding::check_length;
use crate::note::NOTE_SIGNATURES_MAX;
use crate::{CheckpointKeys, CheckpointVerifier, ProvenanceError, SignedCheckpoint};

/// Longest policy.
pub const WITNESS_POLICY_BYTES_MAX: usize = 64 * 1024;
/// Most witnesses, logs and groups each; the specification asks for at least 32.
pub const WITNESS_POLICY_NAMES_MAX: usize = 64;

const WHAT: &str = "witness policy";
/// The quorum of a policy that demands no cosignature.
const NONE: &str = "none";

/// The witnesses that are believed, and the rule by which they suffice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WitnessPolicy {
    logs: Vec<CheckpointVerifier>,
    witnesses: Vec<PolicyWitness>,
    quorum: Option<Quorum>,
}

/// A witness, as the policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name in the policy alone.
    pub name: String,
    /// Its key.
    pub key: WitnessVerifier,
    /// Where it takes checkpoints; a verifier needs none.
    pub url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Quorum {
    name: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// The witness at this place.
    Witness(usize),
    Group {
        members_min: usize,
        members: Vec<Rule>,
    },
}

impl Rule {
    fn is_met(&self, cosigned: &[bool]) -> bool {
        match self {
            Self::Witness(place) => cosigned[*place],
            Self::Group {
                members_min,
                members,
            } => {
                let met = members.iter().filter(|member| member.is_met(cosigned));
                met.count() >= *members_min
            }
        }
    }
}

/// A cosignature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// The witness's name in the policy.
    pub witness: String,
    /// When it had seen no newer checkpoint, in seconds since 1970 UTC by its own clock.
    pub time_s: u64,
}

/// What a policy finds on a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignatures {
    /// Those of the policy's witnesses, in the policy's order.
    pub known: Vec<Cosignature>,
    /// Keys under the log's name, as `name+id`, that have signed as well and are not known here.
    pub unseen_log_keys: Vec<String>,
    /// Other signature lines of neither the log nor a witness of the policy; nothing is known of them.
    pub unknown_lines: usize,
}

impl WitnessPolicy {
    /// Parses a policy: one quorum line, after the witnesses and groups that it rests on.
    ///
    /// # Errors
    /// Refuses unknown lines, names that are not defined before or used twice, keys that occur twice,
    /// and groups of which no number, or more than all, must cosign.
    pub fn parse(text: &str) -> Result<Self, ProvenanceError> {
        check_length(WHAT, text.len(), WITNESS_POLICY_BYTES_MAX)?;
        let mut reading = Reading::default();
        for (number, line) in text.split('\n').enumerate() {
            reading.line(line).map_err(|detail| {
                ProvenanceError::malformed(WHAT, format!("line {}: {detail}", number + 1))
            })?;
        }
        match reading.has_quorum {
            true => Ok(reading.policy),
            false => Err(ProvenanceError::malformed(WHAT, "no quorum is defined")),
        }
    }

    /// Whether a line, trimmed, belongs to a witness policy.
    pub fn is_line(line: &str) -> bool {
        let word = line.split([' ', '\t']).next();
        matches!(word, Some("log" | "witness" | "group" | "quorum"))
    }

    /// The logs that the policy is for; a policy without any is for every log.
    pub fn logs(&self) -> &[CheckpointVerifier] {
        &self.logs
    }

    /// The witnesses, in the policy's order.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// The name of the group or witness that must have cosigned; none demands no cosignature.
    pub fn quorum(&self) -> Option<&str> {
        self.quorum.as_ref().map(|quorum| &quorum.name[..])
    }

    /// Verifies the log's signature and every cosignature of a known witness, and that these suffice.
    ///
    /// # Errors
    /// As [`CheckpointKeys::verify`]; and refuses a checkpoint with a line of a known witness that does
    /// not verify, and one that too few have cosigned.
    pub fn verify(
        &self,
        checkpoint: &SignedCheckpoint,
        log: &CheckpointKeys,
    ) -> Result<Cosignatures, ProvenanceError> {
        log.verify(checkpoint)?;
        self.suffices(checkpoint, log)
    }

    /// Verifies every cosignature of a known witness, and that these suffice, on a checkpoint whose own signature
    /// was verified before.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn suffices(
        &self,
        checkpoint: &SignedCheckpoint,
        log: &CheckpointKeys,
    ) -> Result<Cosignatures, ProvenanceError> {
        let found = self.find(checkpoint, log)?;
        let names: Vec<&str> = found.known.iter().map(|known| &known.witness[..]).collect();
        match &self.quorum {
            Some(quorum) if !self.suffice(&quorum.rule, &names) => {
                Err(ProvenanceError::QuorumMissing {
                    quorum: quorum.name.clone(),
                    cosigned: names.join(", "),
                })
            }
            _ => Ok(found),
        }
    }

    fn suffice(&self, rule: &Rule, names: &[&str]) -> bool {
        let has_cosigned = |witness: &PolicyWitness| names.contains(&&witness.name[..]);
        let cosigned: Vec<bool> = self.witnesses.iter().map(has_cosigned).collect();
        rule.is_met(&cosigned)
    }

    /// The cosignatures that the known witnesses have made.
    fn find(
        &self,
        checkpoint: &SignedCheckpoint,
        log: &CheckpointKeys,
    ) -> Result<Cosignatures, ProvenanceError> {
        let note = checkpoint.note();
        let mut known = Vec::new();
        let unseen_log_keys = log.unseen(checkpoint);
        let mut known_lines = log.lines(checkpoint) + unseen_log_keys.len();
        for PolicyWitness { name, key, .. } in &self.witnesses {
            let lines = note.signatures_of(key.name(), key.key.id()).count();
            if lines > 0 {
                known_lines += lines;
                let (witness, time_s) = (name.clone(), key.verify(checkpoint)?);
                known.push(Cosignature { witness, time_s });
            }
        }
        Ok(Cosignatures {
            known,
            unknown_lines: note.signature_count().saturating_sub(known_lines),
            unseen_log_keys,
        })
    }

    /// The checkpoint with those of these lines that a known witness has made; others are left out, as
    /// are lines beyond what a note may have.
    pub fn cosigned(&self, checkpoint: &SignedCheckpoint, lines: &[String]) -> SignedCheckpoint {
        let mut cosigned = checkpoint.clone();
        for line in lines {
            let by_someone_known = |with_line: &SignedCheckpoint| {
                let mut keys = self.witnesses.iter().map(|witness| &witness.key);
                keys.any(|key| key.verify(with_line).is_ok())
            };
            if checkpoint
                .with_line(line)
                .is_ok_and(|with_line| by_someone_known(&with_line))
                && cosigned.signature_count() < NOTE_SIGNATURES_MAX
                && let Ok(more) = cosigned.with_line(line)
            {
                cosigned = more;
            }
        }
        cosigned
    }
}

/// The policy as far as it was read.
#[derive(Default)]
struct Reading {
    policy: WitnessPolicy,
    has_quorum: bool,
    /// What each name stands for, and whether it is a member of a group already.
    names: BTreeMap<String, (Rule, bool)>,
}

impl Reading {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line
            .chars()
            .any(|character| character.is_ascii_control() && character != '\t')
        {
            return Err("control characters are not allowed".to_owned());
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let Some(keyword) = words.next().filter(|word| !word.starts_with('#')) else {
            return Ok(());
        };
        let words: Vec<&str> = words.collect();
        match (keyword, &words[..]) {
            ("log", [key] | [key, _]) => self.log(key),
            ("witness", [name, key]) => self.witness(name, key, None),
            ("witness", [name, key, url]) => self.witness(name, key, Some(url)),
            ("group", [name, members_min, members @ ..]) if !members.is_empty() => {
                self.group(name, members_min, members)
            }
            ("quorum", [name]) => self.quorum(name),
            ("log" | "witness" | "group" | "quorum", _) => {
                Err(format!("{keyword} has too few or too many words"))
            }
            _ => Err(format!("unknown word {keyword:?}")),
        }
    }

    fn log(&mut self, key: &str) -> Result<(), String> {
        let key: CheckpointVerifier = key.parse().map_err(|error| format!("{error}"))?;
        let logs = &mut self.policy.logs;
        if logs.iter().any(|known| known.key().same_bytes(key.key())) {
            return Err("the key of a log occurs twice".to_owned());
        }
        check_count(logs.len())?;
        logs.push(key);
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), String> {
        let key: WitnessVerifier = key.parse().map_err(|error| format!("{error}"))?;
        let witnesses = &mut self.policy.witnesses;
        if witnesses
            .iter()
            .any(|known| known.key.key.same_bytes(&key.key))
        {
            return Err("the key of a witness occurs twice".to_owned());
        }
        check_count(witnesses.len())?;
        let place = witnesses.len();
        witnesses.push(PolicyWitness {
            name: name.to_owned(),
            key,
            url: url.map(str::to_owned),
        });
        self.define(name, Rule::Witness(place))
    }

    fn group(&mut self, name: &str, members_min: &str, members: &[&str]) -> Result<(), String> {
        let members_min = match members_min {
            "all" => members.len(),
            "any" => 1,
            number => crate::encoding::decimal_u64(WHAT, number)
                .ok()
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=members.len()).contains(number))
                .ok_or_else(|| format!("{number:?} of {} members is no number", members.len()))?,
        };
        let mut rules = Vec::with_capacity(members.len());
        for member in members {
            match self.names.get_mut(*member) {
                Some((rule, is_member @ false)) => {
                    *is_member = true;
                    rules.push(rule.clone());
                }
                Some(_) => return Err(format!("{member:?} is a member twice")),
                None => return Err(format!("{member:?} is not defined before")),
            }
        }
        let members = rules;
        self.define(
            name,
            Rule::Group {
                members_min,
                members,
            },
        )
    }

    fn define(&mut self, name: &str, rule: Rule) -> Result<(), String> {
        // Witnesses and groups share the names, so twice as many.
        if self.names.len() >= 2 * WITNESS_POLICY_NAMES_MAX {
            return Err("too many names".to_owned());
        }
        if name == NONE || self.names.insert(name.to_owned(), (rule, false)).is_some() {
            return Err(format!("the name {name:?} is taken"));
        }
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        if self.has_quorum {
            return Err("a second quorum".to_owned());
        }
        self.has_quorum = true;
        if name == NONE {
            return Ok(());
        }
        let (rule, _) = self
            .names
            .get(name)
            .ok_or_else(|| format!("{name:?} is not defined before"))?;
        self.policy.quorum = Some(Quorum {
            name: name.to_owned(),
            rule: rule.clone(),
        });
        Ok(())
    }
}

fn check_count(count: usize) -> Result<(), String> {
    match count < WITNESS_POLICY_NAMES_MAX {
        true => Ok(()),
        false => Err(format!("more than {WITNESS_POLICY_NAMES_MAX} of a sort")),
    }
}
