-- Models that workers have, so that a process without a generator can name them.

CREATE TABLE announced_models (
    digest       bytea NOT NULL,
    description  text NOT NULL,
    announced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT announced_models_key PRIMARY KEY (digest),
    CONSTRAINT announced_models_digest_is_sha256 CHECK (octet_length(digest) = 32),
    CONSTRAINT announced_models_description_short CHECK (octet_length(description) <= 4096)
);
COMMENT ON TABLE announced_models IS 'Models that workers say they have, one row a model. A worker says it again and again; what was not said for a while has no worker any more.';
COMMENT ON COLUMN announced_models.digest IS 'SHA-256 over all parts of the model, as entries state it.';
COMMENT ON COLUMN announced_models.description IS 'What clients are told about it, as JSON.';
COMMENT ON COLUMN announced_models.announced_at IS 'When a worker said it last, by the clock of the database.';

GRANT SELECT, INSERT, DELETE ON announced_models TO retrace_app;
GRANT UPDATE (description, announced_at) ON announced_models TO retrace_app;
