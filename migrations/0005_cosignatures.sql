-- Cosignatures: what witnesses outside have said about published checkpoints. Lines of their own, beside the
-- checkpoint and not in it, since they come later and one by one.

CREATE TABLE cosignatures (
    tree_size   bigint NOT NULL,
    witness     text NOT NULL,
    line        text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT cosignatures_key PRIMARY KEY (tree_size, witness),
    CONSTRAINT cosignatures_checkpoint FOREIGN KEY (tree_size) REFERENCES checkpoints (tree_size),
    CONSTRAINT cosignatures_witness_length CHECK (octet_length(witness) BETWEEN 1 AND 300),
    CONSTRAINT cosignatures_line_length CHECK (octet_length(line) BETWEEN 1 AND 1024)
);
COMMENT ON TABLE cosignatures IS 'Cosignatures of published checkpoints by witnesses, append-only. Each is verified anew before it is handed out.';
COMMENT ON COLUMN cosignatures.tree_size IS 'Checkpoint that was cosigned.';
COMMENT ON COLUMN cosignatures.witness IS 'Key of the witness as signatures name it: name and id with a plus sign between.';
COMMENT ON COLUMN cosignatures.line IS 'The signature line (C2SP tlog-cosignature), byte for byte, without its newline.';
COMMENT ON COLUMN cosignatures.received_at IS 'When it came, by the clock of the database. Not signed; the line holds the time of the witness.';

-- The newest checkpoint that one witness has cosigned.
CREATE INDEX cosignatures_witness ON cosignatures (witness, tree_size);

CREATE TRIGGER cosignatures_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON cosignatures
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE cosignatures ENABLE ALWAYS TRIGGER cosignatures_append_only;
GRANT SELECT, INSERT ON cosignatures TO retrace_app;
