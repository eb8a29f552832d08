//! The parent's side.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use provenance::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::confine::Confinement;
use super::manifest::ManifestLimits;
use super::{ChildOptions, Errand, Reply, SUBCOMMAND};
use crate::config::Limits;

/// Room for the JSON part of a reply: metadata items within their limits, and some more.
const REPLY_JSON_BYTES_MAX: u64 = 64 << 20;

/// Why a file gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The file broke a cap or its format's rules.
    #[error("{message}")]
    Refused {
        /// Stable word for the reason, see `media::MediaError::code`.
        code: String,
        /// The reason in one line.
        message: String,
    },
    /// The child took too long.
    #[error("parsing the file took longer than the limit parser_wall_ms_max of {wall_ms_max}")]
    TimedOut {
        /// The limit.
        wall_ms_max: u64,
    },
    /// The child died: over its memory or processor limit, or by a decoder's crash.
    #[error(
        "parsing the file ended without an answer: it needs more than the limits \
             parser_memory_bytes_max or parser_cpu_s_max, or it breaks the decoder"
    )]
    Died,
    /// The child answered what a child never answers.
    #[error("the parser's answer is not well-formed")]
    BadReply,
    /// The child could not be started.
    #[error("the parser {program} cannot be started: {reason}")]
    NotStarted {
        /// The program.
        program: String,
        /// What the system said.
        reason: String,
    },
}

/// A picture that came out of the child.
#[derive(Debug)]
pub struct Parsed {
    /// The picture with its pixels.
    pub decoded: media::Decoded,
    /// Digest of the pixels as stored, before the file's colour profile was applied.
    pub pixel_sha256: Digest,
    /// Which fences the child had.
    pub confinement: Confinement,
}

/// Starts a child for each file.
#[derive(Debug, Clone)]
pub struct Sandbox {
    program: PathBuf,
    pub(super) options: ChildOptions,
    wall_ms_max: u64,
    pub(super) manifests: ManifestLimits,
    pub(super) anchors: Arc<str>,
}

/// One exchange with a child.
pub(super) struct Exchange<'a> {
    pub(super) options: ChildOptions,
    pub(super) wall_ms_max: u64,
    /// What the child reads, one after the other.
    pub(super) input: [&'a [u8]; 2],
    pub(super) reply_bytes_max: u64,
}

impl Sandbox {
    /// A sandbox with this program as the child, by default the running program.
    #[must_use]
    pub fn new(program: Option<&Path>, limits: &Limits) -> Self {
        // The link names the running program even after its file has been replaced.
        let running = || PathBuf::from("/proc/self/exe");
        Self {
            program: program.map_or_else(running, Path::to_path_buf),
            options: ChildOptions {
                limits: limits.media(),
                memory_bytes_max: limits.parser_memory_bytes_max,
                cpu_s_max: limits.parser_cpu_s_max,
                errand: Errand::Picture,
            },
            wall_ms_max: limits.parser_wall_ms_max,
            manifests: ManifestLimits::new(limits),
            anchors: Arc::from(""),
        }
    }

    /// The same, and trusts signers of Content Credentials under these certificates in PEM.
    #[must_use]
    pub fn trusting(self, anchors_pem: &str) -> Self {
        Self {
            anchors: Arc::from(anchors_pem),
            ..self
        }
    }

    /// Parses one file in a child of its own. Dropping the future kills the child.
    ///
    /// # Errors
    /// Why there is no picture.
    pub async fn parse(&self, bytes: &[u8]) -> Result<Parsed, SandboxError> {
        let bytes_max = self.options.limits.bytes_max;
        if bytes.len() as u64 > bytes_max {
            let error = media::MediaError::TooManyBytes {
                bytes: bytes.len() as u64,
                bytes_max,
            };
            return Err(refused(&error));
        }
        let pixels = self.options.limits.pixels_max.saturating_mul(4);
        let exchange = Exchange {
            options: self.options.clone(),
            wall_ms_max: self.wall_ms_max,
            input: [&[], bytes],
            reply_bytes_max: pixels.saturating_add(REPLY_JSON_BYTES_MAX),
        };
        self.read_reply(self.ask(&exchange).await?)
    }

    /// Starts a child, gives it its input and takes its reply. Dropping the future kills the child.
    pub(super) async fn ask(&self, exchange: &Exchange<'_>) -> Result<Vec<u8>, SandboxError> {
        let mut child = self.start(&exchange.options)?;
        let deadline = Duration::from_millis(exchange.wall_ms_max);
        match tokio::time::timeout(deadline, converse(&mut child, exchange)).await {
            Ok(reply) => reply,
            Err(_) => {
                // Failing to kill means that it has ended by itself; `kill_on_drop` stands behind.
                let _ = child.kill().await;
                Err(SandboxError::TimedOut {
                    wall_ms_max: exchange.wall_ms_max,
                })
            }
        }
    }

    /// Parses a tiny picture of our own: whether children start, and which fences they get.
    ///
    /// # Errors
    /// Why no child answers.
    pub async fn probe(&self) -> Result<Confinement, SandboxError> {
        let side = 16;
        let rgb = vec![127; side * side * 3];
        let png = media::encode_png(side as u32, side as u32, &rgb, &[])
            .map_err(|_| SandboxError::BadReply)?;
        Ok(self.parse(&png).await?.confinement)
    }

    fn start(&self, options: &ChildOptions) -> Result<Child, SandboxError> {
        let options = serde_json::to_string(options).expect("options are plain numbers");
        Command::new(&self.program)
            .arg(SUBCOMMAND)
            .arg(options)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| SandboxError::NotStarted {
                program: self.program.display().to_string(),
                reason: error.to_string(),
            })
    }

    /// Reads a reply without believing it: the child may have been taken over by its input.
    fn read_reply(&self, mut reply: Vec<u8>) -> Result<Parsed, SandboxError> {
        const BAD: SandboxError = SandboxError::BadReply;
        let (json, start) = json_of(&reply)?;
        match json {
            Reply::Read(_) | Reply::Ingredient(_) => Err(BAD),
            Reply::Refused { code, message } => {
                let (code, message) = (shortened(&code), shortened(&message));
                Err(SandboxError::Refused { code, message })
            }
            Reply::Decoded {
                mut decoded,
                pixel_sha256,
                confinement,
            } => {
                let limits = &self.options.limits;
                let pixels = u64::from(decoded.width) * u64::from(decoded.height);
                if pixels == 0 || pixels > limits.pixels_max {
                    return Err(BAD);
                }
                let channels = if decoded.has_alpha { 4 } else { 3 };
                if (reply.len() - start) as u64 != pixels * channels {
                    return Err(BAD);
                }
                decoded.rgb = reply.split_off(start);
                if decoded.has_alpha {
                    decoded.alpha = Some(decoded.rgb.split_off(decoded.rgb.len() / 4 * 3));
                }
                Ok(Parsed {
                    decoded,
                    pixel_sha256,
                    confinement,
                })
            }
        }
    }
}

async fn converse(child: &mut Child, exchange: &Exchange<'_>) -> Result<Vec<u8>, SandboxError> {
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let stdout = child.stdout.take().expect("standard output is piped");
    let send = async move {
        for part in exchange.input {
            // A child that dies early closes the pipe; its missing reply says so.
            let _ = stdin.write_all(part).await;
        }
        drop(stdin);
    };
    let receive = async move {
        let mut reply = Vec::new();
        stdout
            .take(exchange.reply_bytes_max)
            .read_to_end(&mut reply)
            .await
            .map(|_| reply)
    };
    let ((), reply) = tokio::join!(send, receive);
    let reply = reply.map_err(|_| SandboxError::Died)?;
    let status = child.wait().await.map_err(|_| SandboxError::Died)?;
    if !status.success() {
        return Err(SandboxError::Died);
    }
    Ok(reply)
}

/// The JSON at the beginning of a reply, and where it ends.
pub(super) fn json_of(reply: &[u8]) -> Result<(Reply, usize), SandboxError> {
    const BAD: SandboxError = SandboxError::BadReply;
    let length = reply
        .first_chunk()
        .map(|raw| u32::from_be_bytes(*raw))
        .ok_or(BAD)?;
    let start = 4_usize.checked_add(length as usize).ok_or(BAD)?;
    let json = reply.get(4..start).ok_or(BAD)?;
    let json = serde_json::from_slice(json).map_err(|_| BAD)?;
    Ok((json, start))
}

fn refused(error: &media::MediaError) -> SandboxError {
    SandboxError::Refused {
        code: error.code().to_owned(),
        message: error.to_string(),
    }
}

/// At most 300 printable characters.
fn shortened(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox() -> Sandbox {
        Sandbox::new(None, &Limits::default())
    }

    fn framed(reply: &Reply, rgb: &[u8]) -> Vec<u8> {
        let json = serde_json::to_vec(reply).unwrap();
        [&(json.len() as u32).to_be_bytes()[..], &json, rgb].concat()
    }

    fn decoded() -> Reply {
        let png = media::encode_png(2, 1, &[0; 6], &[]).unwrap();
        Reply::Decoded {
            decoded: media::decode(&png, &media::Limits::default()).unwrap(),
            pixel_sha256: Digest::of(b"pixels"),
            confinement: Confinement {
                resource_limits: true,
                system_call_filter: true,
            },
        }
    }

    #[test]
    fn a_reply_with_the_wrong_number_of_pixels_is_not_believed() {
        assert_eq!(
            sandbox()
                .read_reply(framed(&decoded(), &[1; 6]))
                .unwrap()
                .decoded
                .rgb,
            [1; 6]
        );
        for bytes in [0, 5, 7] {
            let reply = framed(&decoded(), &vec![1; bytes]);
            assert!(matches!(
                sandbox().read_reply(reply),
                Err(SandboxError::BadReply)
            ));
        }
    }

    #[test]
    fn the_alpha_channel_comes_behind_the_pixels() {
        let Reply::Decoded {
            mut decoded,
            pixel_sha256,
            confinement,
        } = decoded()
        else {
            panic!("it was made as a picture");
        };
        decoded.has_alpha = true;
        let reply = Reply::Decoded {
            decoded,
            pixel_sha256,
            confinement,
        };
        let parsed = sandbox()
            .read_reply(framed(&reply, &[1, 2, 3, 4, 5, 6, 0, 255]))
            .unwrap();
        assert_eq!(parsed.decoded.rgb, [1, 2, 3, 4, 5, 6]);
        assert_eq!(parsed.decoded.alpha, Some(vec![0, 255]));
        let without = sandbox().read_reply(framed(&reply, &[1; 6]));
        assert!(matches!(without, Err(SandboxError::BadReply)));
    }

    #[test]
    fn garbage_in_place_of_a_reply_is_not_believed() {
        for reply in [&b""[..], b"\0\0", b"\xff\xff\xff\xff{}", b"\0\0\0\x02{}"] {
            assert!(matches!(
                sandbox().read_reply(reply.to_vec()),
                Err(SandboxError::BadReply)
            ));
        }
    }

    #[tokio::test]
    async fn a_file_over_the_byte_limit_never_reaches_a_child() {
        let limits = Limits {
            upload_bytes_max: 1024,
            ..Limits::default()
        };
        let sandbox = Sandbox::new(Some(Path::new("/nonexistent")), &limits);
        let error = sandbox.parse(&[0; 1025]).await.unwrap_err();
        assert!(matches!(error, SandboxError::Refused { .. }), "{error}");
    }
}
