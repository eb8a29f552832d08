//! Frames and messages of the protocol, the same on both sides.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The name and version of the protocol.
pub(super) const PROTOCOL: &str = "retrace-signer@v1";
/// Longest JSON of a frame: 32 of the longest entries, or hundreds of usual ones.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Most messages of one request.
pub const MESSAGES_MAX: usize = 256;
/// Memory that is taken before the bytes for it have come.
const ROOM_BYTES: usize = 64 << 10;

/// What a key of a signer signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KeyPurpose {
    /// Entries and the manifests of exports.
    Entries,
    /// Checkpoints.
    Checkpoints,
}

impl KeyPurpose {
    /// The word in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Checkpoints => "checkpoints",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Request {
    /// Which keys there are.
    Keys {},
    /// For signatures over messages in base64.
    Sign {
        purpose: KeyPurpose,
        key: String,
        messages: Vec<String>,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub(super) enum Response {
    Keys(ToldKeys),
    /// Signatures in base64.
    Signed {
        signatures: Vec<String>,
    },
    Refused {
        code: String,
        detail: String,
    },
    Busy {},
}

/// What a signer says of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldKeys {
    /// The name and version of the protocol.
    pub protocol: String,
    /// The keys that name the log, as `retrace.pub` has them.
    pub public_keys: String,
    /// The entry key that signs now, as a C2SP verifier key.
    pub entries: String,
    /// The checkpoint keys, as C2SP verifier keys, the one that has its place first; none where that is the
    /// log's first one alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<String>,
    /// What is signed.
    pub purposes: Vec<KeyPurpose>,
}

/// Why a frame was not exchanged.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it took too long")]
    TimedOut,
    #[error("the other side has closed the connection")]
    Closed,
    #[error("a frame of {bytes} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("the frame cannot be read: {0}")]
    Malformed(String),
}

/// A connection that frames pass over.
#[derive(Debug)]
pub(super) struct Wire(UnixStream);

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    pub(super) fn send(
        &mut self,
        message: &impl Serialize,
        deadline: Instant,
    ) -> Result<(), WireError> {
        let json = serde_json::to_vec(message).expect("strings serialise");
        let bytes = json.len();
        if bytes > FRAME_BYTES_MAX {
            return Err(WireError::TooLong { bytes });
        }
        let length = u32::try_from(bytes).map_err(|_| WireError::TooLong { bytes })?;
        let frame = [&length.to_be_bytes()[..], &json].concat();
        let mut rest = &frame[..];
        while !rest.is_empty() {
            self.0.set_write_timeout(Some(until(deadline)?))?;
            match self.0.write(rest) {
                Ok(0) => return Err(WireError::Closed),
                Ok(written) => rest = &rest[written..],
                Err(error) => went_on(error)?,
            }
        }
        Ok(())
    }

    /// Receives one frame, whose first byte must come within the patience, and all others within the limit
    /// from there.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
        limit: Duration,
    ) -> Result<T, WireError> {
        let mut first = [0];
        self.fill(&mut first, Instant::now() + patience)?;
        let deadline = Instant::now() + limit;
        let mut others = [0; 3];
        self.fill(&mut others, deadline)?;
        let [a] = first;
        let [b, c, d] = others;
        let bytes = u32::from_be_bytes([a, b, c, d]) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(WireError::TooLong { bytes });
        }
        let mut json = Vec::new();
        while json.len() < bytes {
            let start = json.len();
            json.resize(bytes.min(start + ROOM_BYTES), 0);
            self.fill(&mut json[start..], deadline)?;
        }
        serde_json::from_slice(&json).map_err(|error| WireError::Malformed(error.to_string()))
    }

    fn fill(&mut self, mut bytes: &mut [u8], deadline: Instant) -> Result<(), WireError> {
        while !bytes.is_empty() {
            self.0.set_read_timeout(Some(until(deadline)?))?;
            match self.0.read(bytes) {
                Ok(0) => return Err(WireError::Closed),
                Ok(read) => bytes = &mut bytes[read..],
                Err(error) => went_on(error)?,
            }
        }
        Ok(())
    }
}

/// A system call that was interrupted or waited too long is tried again, until the deadline is over.
fn went_on(error: io::Error) -> Result<(), WireError> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(()),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(WireError::Closed),
        _ => Err(WireError::Io(error)),
    }
}

fn until(deadline: Instant) -> Result<Duration, WireError> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(WireError::TimedOut),
        false => Ok(left),
    }
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pair() -> (UnixStream, Wire) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (ours, Wire::new(theirs))
    }

    fn received(bytes: &[u8]) -> Result<Request, WireError> {
        let (mut sender, mut wire) = pair();
        sender.write_all(bytes).unwrap();
        drop(sender);
        wire.receive(SECOND, SECOND)
    }

    fn frame(json: &str) -> Vec<u8> {
        [&(json.len() as u32).to_be_bytes()[..], json.as_bytes()].concat()
    }

    #[test]
    fn a_frame_arrives_as_it_was_sent() {
        let (ours, mut theirs) = pair();
        let request = Request::Sign {
            purpose: KeyPurpose::Checkpoints,
            key: "a+b".to_owned(),
            messages: vec![encode(&vec![7; 100_000]); 3],
        };
        let sent = request.clone();
        let sender = std::thread::spawn(move || {
            Wire::new(ours)
                .send(&sent, Instant::now() + SECOND * 30)
                .unwrap();
        });
        let read: Request = theirs.receive(SECOND * 30, SECOND * 30).unwrap();
        sender.join().unwrap();
        assert_eq!(read, request);
    }

    #[test]
    fn garbage_is_refused_before_memory_is_taken_for_it() {
        assert!(matches!(
            received(&[0xff; 400]),
            Err(WireError::TooLong { .. })
        ));
        assert!(matches!(received(b""), Err(WireError::Closed)));
        assert!(matches!(received(b"\0\0"), Err(WireError::Closed)));
        assert!(matches!(received(b"\0\0\0\x09{}"), Err(WireError::Closed)));
        for json in [
            "",
            "{}",
            "[]",
            "\u{0}",
            r#"{"ask":"everything"}"#,
            r#"{"ask":"keys","more":1}"#,
            r#"{"ask":"sign","purpose":"entries","key":"a"}"#,
            r#"{"ask":"sign","purpose":"files","key":"a","messages":[]}"#,
            r#"{"ask":"sign","purpose":"entries","key":"a","messages":[1]}"#,
            r#"{"ask":"keys"}{"ask":"keys"}"#,
            &"[".repeat(100_000),
        ] {
            let read = received(&frame(json));
            assert!(matches!(read, Err(WireError::Malformed(_))), "{json:.60}");
        }
        assert_eq!(
            received(&frame(r#"{"ask":"keys"}"#)).unwrap(),
            Request::Keys {}
        );
    }

    #[test]
    fn whoever_sends_a_byte_now_and_then_is_not_waited_for() {
        let (mut sender, mut wire) = pair();
        sender.write_all(&[0, 0, 0]).unwrap();
        let read: Result<Request, _> = wire.receive(SECOND, Duration::from_millis(20));
        assert!(matches!(read, Err(WireError::TimedOut)), "{read:?}");
        let silent: Result<Request, _> = wire.receive(Duration::from_millis(20), SECOND);
        assert!(matches!(silent, Err(WireError::TimedOut)), "{silent:?}");
    }
}
