//! Content Credentials of uploads, read in a child of their own.

use credentials::{Ingredient, ManifestCaps, Reading};
use media::Format;

use super::parent::{Exchange, Sandbox, json_of};
use super::{ChildOptions, Errand, Reply, SandboxError, Wanted};
use crate::config::Limits;

/// Room for a reply beside the manifests in it, which base64 makes a third longer.
const REPLY_ROOM: u64 = 1 << 20;

/// What a child gets for the Content Credentials of one upload.
#[derive(Debug, Clone)]
pub(super) struct ManifestLimits {
    caps: ManifestCaps,
    memory_bytes_max: u64,
    cpu_s_max: u64,
    wall_ms_max: u64,
}

impl ManifestLimits {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            caps: limits.manifests(),
            memory_bytes_max: limits.manifest_memory_bytes_max,
            cpu_s_max: limits.manifest_cpu_s_max,
            wall_ms_max: limits.manifest_wall_ms_max,
        }
    }
}

impl Sandbox {
    /// What the Content Credentials of a file say, and whether they hold; none where it has none.
    /// Those that break a limit or the reader are refused, and say so.
    ///
    /// # Errors
    /// When no child can be started: that is no fault of the file.
    pub async fn read_credentials(
        &self,
        file: &[u8],
        format: Format,
    ) -> Result<Option<Reading>, SandboxError> {
        let refused = |reason: String| Ok(Some(Reading::refused(&reason)));
        match self
            .ask_of_credentials(file, (format, Wanted::Reading))
            .await
        {
            Ok(Reply::Read(reading)) => Ok(reading.map(Reading::shortened)),
            Ok(_) | Err(SandboxError::BadReply) => {
                refused("the reader's answer is not well-formed".to_owned())
            }
            Err(SandboxError::TimedOut { wall_ms_max }) => refused(format!(
                "reading took longer than the limit manifest_wall_ms_max of {wall_ms_max}"
            )),
            Err(SandboxError::Died) => refused(
                "reading needs more than the limits manifest_memory_bytes_max or \
                 manifest_cpu_s_max, or it breaks the reader"
                    .to_owned(),
            ),
            Err(error) => Err(error),
        }
    }

    /// A picture as the manifest of an image that is made from it states it: with its own manifests
    /// where they hold and keep the limits.
    ///
    /// # Errors
    /// When no child can be started.
    pub async fn ingredient(
        &self,
        file: &[u8],
        format: Format,
    ) -> Result<Ingredient, SandboxError> {
        match self
            .ask_of_credentials(file, (format, Wanted::Ingredient))
            .await
        {
            Ok(Reply::Ingredient(ingredient)) => Ok(ingredient),
            Err(error @ SandboxError::NotStarted { .. }) => Err(error),
            Ok(_) | Err(_) => Ok(Ingredient::without_manifest(format)),
        }
    }

    async fn ask_of_credentials(
        &self,
        file: &[u8],
        (format, wanted): (Format, Wanted),
    ) -> Result<Reply, SandboxError> {
        let limits = &self.manifests;
        let anchors = self.anchors.as_bytes();
        let exchange = Exchange {
            options: ChildOptions {
                limits: self.options.limits,
                memory_bytes_max: limits.memory_bytes_max,
                cpu_s_max: limits.cpu_s_max,
                errand: Errand::Credentials {
                    format,
                    caps: limits.caps,
                    anchors_bytes: anchors.len() as u64,
                    wanted,
                },
            },
            wall_ms_max: limits.wall_ms_max,
            input: [anchors, file],
            reply_bytes_max: limits
                .caps
                .carried_bytes_max
                .saturating_mul(2)
                .saturating_add(REPLY_ROOM),
        };
        json_of(&self.ask(&exchange).await?).map(|(reply, _)| reply)
    }
}
