//! A manifest into the file of an image.

use std::io::Cursor;

use c2pa::{Builder, Ingredient, Signer};
use serde_json::Value;

use crate::read;
use crate::time_stamp::{Stamping, TimeStampAuthority};
use crate::{CredentialSigner, CredentialsError, Statement};

impl CredentialSigner {
    /// The file with a signed manifest in it. Its pixels stay as they are. Every call gives other
    /// bytes: a manifest has an id of its own, and its assertions are salted.
    ///
    /// # Errors
    /// [`CredentialsError::Write`] when the bytes are no file of the stated format.
    pub fn sign(
        &self,
        file: Vec<u8>,
        statement: &Statement<'_>,
    ) -> Result<Vec<u8>, CredentialsError> {
        let definition = statement.definition()?;
        let written = self.write(self.signer(), file, (statement, definition));
        written.map_err(failed)
    }

    /// As [`sign`](Self::sign), with a time stamp of the signature beside it, which is read back: a file
    /// that comes out has one that holds.
    ///
    /// # Errors
    /// As there, and [`CredentialsError::TimeStamp`] when the authority gives none that holds.
    pub fn sign_stamped(
        &self,
        file: Vec<u8>,
        statement: &Statement<'_>,
        authority: &dyn TimeStampAuthority,
    ) -> Result<Vec<u8>, CredentialsError> {
        let signer = Stamping::new(self.signer(), authority);
        let definition = statement.definition()?;
        let written = self.write(&signer, file, (statement, definition));
        let signed = written.map_err(|error| match signer.fault(&error) {
            Some(cause) => CredentialsError::TimeStamp { cause },
            None => failed(error),
        })?;
        if !read::is_time_stamped(&signed, statement.format) {
            let cause = "the stamp is not one of this signature".to_owned();
            return Err(CredentialsError::TimeStamp { cause });
        }
        Ok(signed)
    }

    fn write(
        &self,
        signer: &dyn Signer,
        file: Vec<u8>,
        (statement, definition): (&Statement<'_>, Value),
    ) -> Result<Vec<u8>, c2pa::Error> {
        let mut builder =
            Builder::from_shared_context(self.context()).with_definition(definition)?;
        if let Some(ingredient) = statement.ingredient() {
            let definition = ingredient.definition().to_string();
            let mut added = Ingredient::from_json(&definition)?;
            if let Some(store) = ingredient.store() {
                added.set_manifest_data(store.to_vec())?;
            }
            builder.add_ingredient(added);
        }
        let media_type = statement.format.media_type();
        let room = file.len() + MANIFEST_ROOM;
        let mut signed = Cursor::new(Vec::with_capacity(room));
        builder.sign(signer, media_type, &mut Cursor::new(file), &mut signed)?;
        Ok(signed.into_inner())
    }
}

fn failed(error: c2pa::Error) -> CredentialsError {
    CredentialsError::Write {
        cause: error.to_string(),
    }
}

/// Bytes that are set aside for a manifest without ingredients.
const MANIFEST_ROOM: usize = 32 << 10;
