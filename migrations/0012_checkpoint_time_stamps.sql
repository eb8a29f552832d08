-- Time stamps (RFC 3161): what an authority outside has said about when published checkpoints existed. Rows of their
-- own, beside the checkpoint, since they come later and only now and then.

CREATE TABLE checkpoint_time_stamps (
    tree_size   bigint NOT NULL,
    reply       bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT checkpoint_time_stamps_key PRIMARY KEY (tree_size),
    CONSTRAINT checkpoint_time_stamps_checkpoint FOREIGN KEY (tree_size) REFERENCES checkpoints (tree_size),
    CONSTRAINT checkpoint_time_stamps_reply_length CHECK (octet_length(reply) BETWEEN 1 AND 12288)
);
COMMENT ON TABLE checkpoint_time_stamps IS 'Time stamps of published checkpoints by an authority (RFC 3161), append-only. The imprint is the SHA-256 of the checkpoint''s note as the table checkpoints has it; `ledger check` verifies it.';
COMMENT ON COLUMN checkpoint_time_stamps.tree_size IS 'Checkpoint that was stamped.';
COMMENT ON COLUMN checkpoint_time_stamps.reply IS 'The authority''s answer, a TimeStampResp in DER, byte for byte.';
COMMENT ON COLUMN checkpoint_time_stamps.received_at IS 'When it came, by the clock of the database. Not signed; the answer holds the time of the authority.';

CREATE TRIGGER checkpoint_time_stamps_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoint_time_stamps
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE checkpoint_time_stamps ENABLE ALWAYS TRIGGER checkpoint_time_stamps_append_only;
GRANT SELECT, INSERT ON checkpoint_time_stamps TO retrace_app;
