//! The signer's side: the socket, and those who ask.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::held::HeldKeys;
use super::wire::{Request, Response, Wire, WireError, decode, encode};
use crate::config::SignerLimits;

/// Who may connect: the owner.
const SOCKET_MODE: u32 = 0o600;
/// Permission bits with which everybody may replace files of a folder, and the one that forbids it again.
const OPEN_FOLDER: u32 = 0o022;
const STICKY: u32 = 0o1000;
/// How long to wait when no connection can be taken, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a signer does not start.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// Another one is there.
    #[error("another signer answers at {}", path.display())]
    Answered {
        /// The socket.
        path: PathBuf,
    },
    /// What lies there is no socket.
    #[error("{} is no socket, and is left alone", path.display())]
    NoSocket {
        /// What lies there.
        path: PathBuf,
    },
    /// Everybody could put another socket there.
    #[error("others may write to {} (mode {mode:o}), and could answer in the signer's place", path.display())]
    OpenFolder {
        /// The folder of the socket.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The socket cannot be made.
    #[error("no socket can be made at {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that nobody is answered on yet.
#[derive(Debug)]
pub struct SignerSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Held as long as the signer runs, so that there is one for each socket.
    lock: File,
}

impl SignerSocket {
    /// Makes the socket, which its owner alone can open. One that a killed signer has left is replaced.
    ///
    /// # Errors
    /// See [`SignerError`].
    pub fn bind(path: &Path) -> Result<Self, SignerError> {
        let failed = |source| SignerError::Socket {
            path: path.to_owned(),
            source,
        };
        let answered = || SignerError::Answered {
            path: path.to_owned(),
        };
        // A path that no client could name; the socket is made under a shorter one.
        SocketAddr::from_pathname(path).map_err(failed)?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mode = fs::metadata(folder).map_err(failed)?.permissions().mode() & 0o7777;
        if mode & OPEN_FOLDER != 0 && mode & STICKY == 0 {
            let path = folder.to_owned();
            return Err(SignerError::OpenFolder { path, mode });
        }
        let lock = open_lock(path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(answered()),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Whoever has the lock may replace the socket, unless it is something else's.
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(found) if !found.file_type().is_socket() => {
                let path = path.to_owned();
                return Err(SignerError::NoSocket { path });
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(answered()),
            Ok(_) => {}
        }
        // In a folder of its own nobody connects before the permissions are right.
        let closed = tempfile::tempdir_in(folder).map_err(failed)?;
        let made = closed.path().join("s");
        let listener = UnixListener::bind(&made).map_err(failed)?;
        fs::set_permissions(&made, Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        fs::rename(&made, path).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            lock,
        })
    }

    /// Answers from now on, on threads of its own.
    #[must_use]
    pub fn serve(self, keys: HeldKeys, limits: SignerLimits) -> RunningSigner {
        let stopping = Arc::new(AtomicBool::new(false));
        let desk = Arc::new(Desk {
            keys,
            limits,
            connections: AtomicUsize::new(0),
        });
        let (listener, stops) = (self.listener, Arc::clone(&stopping));
        let thread = thread::spawn(move || accept(&listener, &desk, &stops));
        RunningSigner {
            path: self.path,
            stopping,
            thread: Some(thread),
            _lock: self.lock,
        }
    }
}

/// The file beside the socket that one signer at a time holds locked.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    options.mode(SOCKET_MODE).open(path.with_file_name(name))
}

/// A signer that answers. When it is dropped it answers nobody new and removes its socket.
#[derive(Debug)]
pub struct RunningSigner {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _lock: File,
}

impl Drop for RunningSigner {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections; without the socket it ends with the process.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let Some(thread) = self.thread.take()
            && woken
        {
            let _ = thread.join();
        }
        // One that cannot be removed is replaced by the next signer.
        let _ = fs::remove_file(&self.path);
    }
}

struct Desk {
    keys: HeldKeys,
    limits: SignerLimits,
    connections: AtomicUsize,
}

/// A place among the connections, given back when it is dropped.
struct Place(Arc<Desk>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

fn accept(listener: &UnixListener, desk: &Arc<Desk>, stopping: &AtomicBool) {
    loop {
        let stream = listener.accept();
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let before = desk.connections.fetch_add(1, Ordering::SeqCst);
        let place = Place(Arc::clone(desk));
        if before >= desk.limits.connections_max {
            let deadline = Instant::now() + PAUSE;
            // Whoever does not hear it notices that the connection ended.
            let _ = Wire::new(stream).send(&Response::Busy {}, deadline);
            continue;
        }
        let asked = thread::Builder::new().spawn(move || {
            let place = place;
            converse(Wire::new(stream), &place.0);
        });
        if let Err(error) = asked {
            tracing::warn!(%error, "no thread for a connection");
        }
    }
}

/// Answers the requests of one connection until it ends.
fn converse(mut wire: Wire, desk: &Desk) {
    let (idle_max, request_max) = (desk.limits.idle_max(), desk.limits.request_max());
    loop {
        let (answer, goes_on) = match wire.receive(idle_max, request_max) {
            Ok(request) => (answer(request, &desk.keys), true),
            Err(error @ (WireError::TooLong { .. } | WireError::Malformed(_))) => {
                tracing::warn!(%error, "a request cannot be read");
                (refusal("malformed", &error.to_string()), false)
            }
            Err(_) => return,
        };
        let sent = wire.send(&answer, Instant::now() + request_max);
        if sent.is_err() || !goes_on {
            return;
        }
    }
}

fn answer(request: Request, keys: &HeldKeys) -> Response {
    match request {
        Request::Keys {} => Response::Keys(keys.told()),
        Request::Sign {
            purpose,
            key,
            messages,
        } => {
            let decoded: Option<Vec<Vec<u8>>> = messages.iter().map(|text| decode(text)).collect();
            let Some(messages) = decoded else {
                return refusal("malformed", "a message is not base64");
            };
            match keys.sign(purpose, &key, messages) {
                Ok(signatures) => Response::Signed {
                    signatures: signatures.iter().map(|bytes| encode(bytes)).collect(),
                },
                Err(refused) => {
                    tracing::warn!(code = refused.code(), %refused, "nothing was signed");
                    refusal(refused.code(), &refused.to_string())
                }
            }
        }
    }
}

fn refusal(code: &str, detail: &str) -> Response {
    Response::Refused {
        code: code.to_owned(),
        detail: detail.to_owned(),
    }
}
