-- Review cases: what a reviewer decided to keep about a scored upload. Without a case nothing of an upload is kept. The
-- uploads themselves lie in a store of their own, outside the database; everything here may be read by the client that
-- opened the case and by auditors, and none of it is part of the log.

CREATE TABLE cases (
    case_id       bigint GENERATED ALWAYS AS IDENTITY,
    client        text NOT NULL,
    opened_at     timestamptz NOT NULL DEFAULT now(),
    leaf_index    bigint NOT NULL,
    upload_sha256 bytea NOT NULL,
    upload_bytes  bigint NOT NULL,
    upload_salt   bytea,
    file_name     text,
    report        text NOT NULL,
    kept_at       timestamptz,
    erased_at     timestamptz,
    closed_at     timestamptz,
    closed_by     text,
    decision      text,
    CONSTRAINT cases_key PRIMARY KEY (case_id),
    CONSTRAINT cases_leaf_index_unique UNIQUE (leaf_index),
    CONSTRAINT cases_leaf_index_recorded FOREIGN KEY (leaf_index) REFERENCES entries (leaf_index),
    CONSTRAINT cases_upload_is_sha256 CHECK (octet_length(upload_sha256) = 32),
    CONSTRAINT cases_upload_bytes_positive CHECK (upload_bytes > 0),
    CONSTRAINT cases_salt_is_32_bytes CHECK (octet_length(upload_salt) = 32),
    CONSTRAINT cases_file_name_length CHECK (char_length(file_name) <= 200),
    CONSTRAINT cases_report_bytes_max CHECK (octet_length(report) BETWEEN 2 AND 1048576),
    CONSTRAINT cases_decision_known CHECK (decision IN ('generated', 'not_generated', 'undecided')),
    CONSTRAINT cases_closed_whole CHECK ((closed_at IS NULL) = (decision IS NULL) AND (closed_at IS NULL) = (closed_by IS NULL)),
    CONSTRAINT cases_erased_whole CHECK (erased_at IS NULL OR (upload_salt IS NULL AND file_name IS NULL))
);
CREATE INDEX cases_by_client ON cases (client, case_id);
CREATE INDEX cases_open ON cases (case_id) WHERE closed_at IS NULL;
CREATE INDEX cases_holding_bytes ON cases (upload_bytes) WHERE erased_at IS NULL;
COMMENT ON TABLE cases IS 'Review cases: one row for each scored upload that a reviewer decided to keep.';
COMMENT ON COLUMN cases.case_id IS 'Number of the case, with gaps.';
COMMENT ON COLUMN cases.client IS 'Client that opened it.';
COMMENT ON COLUMN cases.opened_at IS 'When it was opened, by the clock of the database.';
COMMENT ON COLUMN cases.leaf_index IS 'The signed score entry that the case is about.';
COMMENT ON COLUMN cases.upload_sha256 IS 'SHA-256 of the upload; stays when the upload is erased, so that the case stays about one definite file.';
COMMENT ON COLUMN cases.upload_bytes IS 'Length of the upload; counts against the limit of kept bytes until the upload is erased.';
COMMENT ON COLUMN cases.upload_salt IS 'Opens the upload commitment of the score entry, 32 bytes; erased with the upload.';
COMMENT ON COLUMN cases.file_name IS 'Name that the upload came with; erased with the upload.';
COMMENT ON COLUMN cases.report IS 'What the detector found, as JSON: verdict, evidence, heatmap, trace curve, and how the file was read.';
COMMENT ON COLUMN cases.kept_at IS 'When the upload was durable in the store; null while the case is being opened, or when that was interrupted.';
COMMENT ON COLUMN cases.erased_at IS 'When the upload was erased; null while it is kept.';
COMMENT ON COLUMN cases.closed_at IS 'When the reviewer decided; null while the case is open.';
COMMENT ON COLUMN cases.closed_by IS 'Client that closed it.';
COMMENT ON COLUMN cases.decision IS 'The reviewer''s decision: generated, not_generated or undecided.';

CREATE TABLE case_notes (
    note_id    bigint GENERATED ALWAYS AS IDENTITY,
    case_id    bigint NOT NULL,
    author     text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    note       text NOT NULL,
    CONSTRAINT case_notes_key PRIMARY KEY (note_id),
    CONSTRAINT case_notes_case_known FOREIGN KEY (case_id) REFERENCES cases (case_id),
    CONSTRAINT case_notes_length CHECK (char_length(note) BETWEEN 1 AND 10000)
);
CREATE INDEX case_notes_by_case ON case_notes (case_id, note_id);
COMMENT ON TABLE case_notes IS 'What reviewers wrote about a case. Notes are added, never changed.';
COMMENT ON COLUMN case_notes.note_id IS 'Order of the notes, with gaps.';
COMMENT ON COLUMN case_notes.case_id IS 'The case.';
COMMENT ON COLUMN case_notes.author IS 'Client that wrote it.';
COMMENT ON COLUMN case_notes.written_at IS 'When it was written, by the clock of the database.';
COMMENT ON COLUMN case_notes.note IS 'The text.';

GRANT SELECT, INSERT ON cases, case_notes TO retrace_app;
GRANT UPDATE (kept_at, erased_at, upload_salt, file_name, closed_at, closed_by, decision) ON cases TO retrace_app;
