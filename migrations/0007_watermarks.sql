-- Ids of the watermarks that entries state, apart from the entries: an upload's mark is looked up here.

CREATE TABLE watermarks (
    leaf_index   bigint NOT NULL,
    watermark_id bigint NOT NULL,
    CONSTRAINT watermarks_key PRIMARY KEY (leaf_index),
    CONSTRAINT watermarks_entry FOREIGN KEY (leaf_index) REFERENCES entries (leaf_index),
    CONSTRAINT watermarks_id_is_40_bits CHECK (watermark_id BETWEEN 0 AND 1099511627775)
);
CREATE INDEX watermarks_by_id ON watermarks (watermark_id, leaf_index);
COMMENT ON TABLE watermarks IS 'Watermarks that entries state, append-only. Read out of the envelopes, as the columns of entries are; `ledger check` compares them.';
COMMENT ON COLUMN watermarks.leaf_index IS 'Entry that states it.';
COMMENT ON COLUMN watermarks.watermark_id IS 'Id in the starting noise, 40 bits. Images of one request that was repeated share it.';

CREATE TRIGGER watermarks_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON watermarks
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE watermarks ENABLE ALWAYS TRIGGER watermarks_append_only;
GRANT SELECT, INSERT ON watermarks TO retrace_app;
