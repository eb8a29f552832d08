//! A manifest into the file of an image.

use std::io::Cursor;

use c2pa::{Builder, Ingredient};

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
        let failed = |error: c2pa::Error| CredentialsError::Write {
            cause: error.to_string(),
        };
        let mut builder = Builder::from_shared_context(self.context())
            .with_definition(statement.definition()?)
            .map_err(failed)?;
        if let Some(ingredient) = statement.ingredient() {
            let definition = ingredient.definition().to_string();
            let mut added = Ingredient::from_json(&definition).map_err(failed)?;
            if let Some(store) = ingredient.store() {
                added.set_manifest_data(store.to_vec()).map_err(failed)?;
            }
            builder.add_ingredient(added);
        }
        let media_type = statement.format.media_type();
        let room = file.len() + MANIFEST_ROOM;
        let mut signed = Cursor::new(Vec::with_capacity(room));
        builder
            .sign(
                self.signer(),
                media_type,
                &mut Cursor::new(file),
                &mut signed,
            )
            .map_err(failed)?;
        Ok(signed.into_inner())
    }
}

/// Bytes that are set aside for a manifest without ingredients.
const MANIFEST_ROOM: usize = 32 << 10;
