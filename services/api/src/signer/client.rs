//! The service's side: asks a signer, with some patience.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use provenance::keys::{Purpose, Signer, Verifier};
use provenance::{KeyHolder, SigningFailure};

use super::SignerAddress;
use super::wire::{
    FRAME_BYTES_MAX, KeyPurpose, MESSAGES_MAX, PROTOCOL, Request, Response, ToldKeys, Wire,
    WireError, decode, encode,
};
use crate::config::SignerOptions;

/// Connections that are kept for the next question.
const CONNECTIONS_KEPT_MAX: usize = 8;
/// How long to wait before a signer that is not there is looked for again.
const PAUSE: Duration = Duration::from_millis(50);
/// Room in a frame for what is not a message, and for each message what is not its bytes.
const FRAME_REST_BYTES: usize = 4 << 10;
const MESSAGE_REST_BYTES: usize = 8;

/// Asks a signer. It blocks the calling thread.
#[derive(Debug)]
pub struct SignerClient {
    address: SignerAddress,
    wait_max: Duration,
    kept: Mutex<Vec<Wire>>,
}

/// A key that a signer holds.
struct SocketKey {
    client: Arc<SignerClient>,
    purpose: KeyPurpose,
    key: String,
}

impl SignerClient {
    /// A client of the configured signer; none where there is none.
    #[must_use]
    pub fn of(options: &SignerOptions) -> Option<Arc<Self>> {
        let address = options.signer.clone()?;
        Some(Arc::new(Self {
            address,
            wait_max: Duration::from_millis(options.signer_wait_ms_max),
            kept: Mutex::default(),
        }))
    }

    /// Where the signer answers.
    #[must_use]
    pub fn address(&self) -> &SignerAddress {
        &self.address
    }

    /// What the signer says of its keys.
    ///
    /// # Errors
    /// When it does not answer, or with something else.
    pub fn keys(&self) -> Result<ToldKeys, SigningFailure> {
        match self.ask(&Request::Keys {})? {
            Response::Keys(told) if told.protocol == PROTOCOL => Ok(told),
            Response::Keys(told) => Err(SigningFailure::Refused(format!(
                "it speaks {:?}, and this program {PROTOCOL}",
                told.protocol
            ))),
            Response::Refused { code, detail } => Err(refused(&code, &detail)),
            Response::Signed { .. } | Response::Busy {} => Err(SigningFailure::Wrong),
        }
    }

    /// A signer for one purpose with the key that is held there.
    #[must_use]
    pub fn signer<P: Purpose>(
        self: &Arc<Self>,
        purpose: KeyPurpose,
        verifier: Verifier<P>,
    ) -> Signer<P> {
        let key = SocketKey {
            client: Arc::clone(self),
            purpose,
            key: verifier.key_id(),
        };
        Signer::held_by(Arc::new(key), verifier)
    }

    /// Asks until there is an answer or the patience is over. The same question may reach the signer twice:
    /// Ed25519 gives the same signature again.
    fn ask(&self, request: &Request) -> Result<Response, SigningFailure> {
        let deadline = Instant::now() + self.wait_max;
        loop {
            let kept = self.kept().pop();
            let was_kept = kept.is_some();
            let failure = match self.exchange(kept, request, deadline) {
                Ok(Response::Busy {}) => "it has as many connections as it may".to_owned(),
                Ok(answer) => return Ok(answer),
                Err(WireError::TooLong { .. } | WireError::Malformed(_)) => {
                    return Err(SigningFailure::Wrong);
                }
                // The signer was started again meanwhile, or has ended a silent connection.
                Err(WireError::Closed) if was_kept => continue,
                Err(error) => error.to_string(),
            };
            if Instant::now() + PAUSE >= deadline {
                let (address, waited) = (&self.address, self.wait_max.as_millis());
                return Err(SigningFailure::Unavailable(format!(
                    "{address}, within the limit signer_wait_ms_max of {waited}: {failure}"
                )));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn exchange(
        &self,
        kept: Option<Wire>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Response, WireError> {
        let mut wire = match kept {
            Some(wire) => wire,
            None => Wire::new(self.connect()?),
        };
        match wire.send(request, deadline) {
            // Whoever ends a connection before he reads may have said why.
            Ok(()) | Err(WireError::Closed) => {}
            Err(error) => return Err(error),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = wire.receive(left, left)?;
        let mut kept = self.kept();
        if kept.len() < CONNECTIONS_KEPT_MAX && answer != (Response::Busy {}) {
            kept.push(wire);
        }
        Ok(answer)
    }

    /// Connects, unless the socket is another user's: in a folder that all may write to, anybody could answer.
    fn connect(&self) -> io::Result<UnixStream> {
        let owner = std::fs::metadata(self.address.path())?.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("the socket belongs to another user"));
        }
        UnixStream::connect(self.address.path())
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Wire>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SocketKey {
    /// Asks for the signatures over some messages, which fit into one frame.
    fn ask(&self, messages: &[Vec<u8>]) -> Result<Vec<[u8; 64]>, SigningFailure> {
        let request = Request::Sign {
            purpose: self.purpose,
            key: self.key.clone(),
            messages: messages.iter().map(|message| encode(message)).collect(),
        };
        match self.client.ask(&request)? {
            Response::Signed { signatures } => signatures
                .iter()
                .map(|text| decode(text)?.try_into().ok())
                .collect::<Option<_>>()
                .ok_or(SigningFailure::Wrong),
            Response::Refused { code, detail } => Err(refused(&code, &detail)),
            Response::Keys(_) | Response::Busy {} => Err(SigningFailure::Wrong),
        }
    }
}

impl KeyHolder for SocketKey {
    fn sign(&self, messages: &[Vec<u8>]) -> Result<Vec<[u8; 64]>, SigningFailure> {
        let mut signatures = Vec::with_capacity(messages.len());
        let mut rest = messages;
        while !rest.is_empty() {
            let (frame, others) = rest.split_at(fitting(rest));
            signatures.extend(self.ask(frame)?);
            rest = others;
        }
        Ok(signatures)
    }
}

impl fmt::Debug for SocketKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.key, self.client.address)
    }
}

/// How many of the messages go into one frame; at least one.
fn fitting(messages: &[Vec<u8>]) -> usize {
    let mut room = FRAME_BYTES_MAX - FRAME_REST_BYTES;
    let mut fits = |message: &&Vec<u8>| {
        let needed = message.len().div_ceil(3) * 4 + MESSAGE_REST_BYTES;
        let left = room.checked_sub(needed);
        room = left.unwrap_or(0);
        left.is_some()
    };
    let first = messages.iter().take(MESSAGES_MAX);
    first.take_while(|message| fits(message)).count().max(1)
}

/// A refusal in the signer's own words, shortened: they are not believed to be short.
fn refused(code: &str, detail: &str) -> SigningFailure {
    let printable = |text: &str| -> String {
        let shown = text.chars().filter(|character| !character.is_control());
        shown.take(300).collect()
    };
    SigningFailure::Refused(format!("{} ({})", printable(detail), printable(code)))
}
