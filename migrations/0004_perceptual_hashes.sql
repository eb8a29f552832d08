-- Perceptual hashes of generated images, apart from the entries: whoever searches by similarity reads all of them
-- once, and nothing else.

CREATE TABLE perceptual_hashes (
    leaf_index bigint NOT NULL,
    hash       bytea NOT NULL,
    quality    smallint NOT NULL,
    CONSTRAINT perceptual_hashes_key PRIMARY KEY (leaf_index),
    CONSTRAINT perceptual_hashes_entry FOREIGN KEY (leaf_index) REFERENCES entries (leaf_index),
    CONSTRAINT perceptual_hashes_hash_is_256_bits CHECK (octet_length(hash) = 32),
    CONSTRAINT perceptual_hashes_quality_range CHECK (quality BETWEEN 0 AND 100)
);
COMMENT ON TABLE perceptual_hashes IS 'Perceptual hashes that entries state, append-only. Read out of the envelopes, as the columns of entries are; `ledger check` compares them.';
COMMENT ON COLUMN perceptual_hashes.leaf_index IS 'Entry that states it.';
COMMENT ON COLUMN perceptual_hashes.hash IS 'PDQ hash, 256 bits.';
COMMENT ON COLUMN perceptual_hashes.quality IS 'Quality of the hash, 0 to 100.';

CREATE TRIGGER perceptual_hashes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON perceptual_hashes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE perceptual_hashes ENABLE ALWAYS TRIGGER perceptual_hashes_append_only;
GRANT SELECT, INSERT ON perceptual_hashes TO retrace_app;
