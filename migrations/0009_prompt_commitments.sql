-- Commitments to prompts beside the entries that state them, so that whoever is given salt and prompt can look up
-- which images were made from them.

ALTER TABLE entries ADD COLUMN prompt_commitment bytea;
-- Fills the column of what is recorded already while the table is written anew: no row is updated, so no fence is
-- lowered. An envelope that cannot be read stops it, and with it the start of a newer service on a damaged log.
ALTER TABLE entries ALTER COLUMN prompt_commitment TYPE bytea USING CASE WHEN kind = 'generation' THEN
    decode(
        convert_from(decode(convert_from(envelope, 'UTF8')::jsonb ->> 'payload', 'base64'), 'UTF8')::jsonb
            #>> '{body,prompt_commitment}',
        'hex'
    )
END;
ALTER TABLE entries ADD CONSTRAINT entries_prompt_commitment_is_sha256 CHECK (octet_length(prompt_commitment) = 32);
CREATE INDEX entries_by_prompt_commitment ON entries (prompt_commitment, leaf_index) WHERE prompt_commitment IS NOT NULL;
COMMENT ON COLUMN entries.prompt_commitment IS 'Salted commitment to the prompt, for generations.';
