-- The ledger: what is queued, what is recorded, the Merkle tree over it and the checkpoints that were signed.
-- Tables belong to the role that migrates. The service works as `retrace_app`, which may add entries, tree nodes
-- and checkpoints but never change or remove them; triggers refuse the same to everyone, the owner included.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'retrace_app') THEN
        CREATE ROLE retrace_app NOLOGIN;
    END IF;
EXCEPTION
    -- Roles belong to the whole cluster: the migration of another database may make it at the same moment.
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

DO $$
BEGIN
    EXECUTE format('GRANT retrace_app TO %I', current_user);
EXCEPTION
    -- Somebody else granted it at the same moment, or this role may not grant (connecting then says so).
    WHEN unique_violation OR insufficient_privilege THEN NULL;
END
$$;

CREATE FUNCTION refuse_change() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: the ledger is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
END
$$;
COMMENT ON FUNCTION refuse_change() IS 'Trigger function that refuses any change of recorded rows.';

-- Queue -------------------------------------------------------------------------------------------------------

CREATE TABLE pending (
    arrival     bigint GENERATED ALWAYS AS IDENTITY,
    leaf_hash   bytea NOT NULL,
    envelope    bytea NOT NULL,
    kind        text NOT NULL,
    request_id  text NOT NULL,
    image_index bigint NOT NULL,
    client      text NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    refusal     text,
    refused_at  timestamptz,
    CONSTRAINT pending_arrival_key PRIMARY KEY (arrival),
    -- Made before the index on requests, so that a retry of the same envelope meets this one first.
    CONSTRAINT pending_leaf_hash_unique UNIQUE (leaf_hash),
    CONSTRAINT pending_leaf_hash_is_sha256 CHECK (octet_length(leaf_hash) = 32),
    CONSTRAINT pending_envelope_bytes_max CHECK (octet_length(envelope) BETWEEN 1 AND 65535),
    CONSTRAINT pending_image_index_not_negative CHECK (image_index >= 0),
    CONSTRAINT pending_refusal_known CHECK (refusal IN ('bad_signature', 'unreadable', 'request_conflict')),
    CONSTRAINT pending_refusal_dated CHECK ((refusal IS NULL) = (refused_at IS NULL))
);
-- Refused rows do not count: they must not keep a request from being answered.
CREATE UNIQUE INDEX pending_request_unique ON pending (client, kind, request_id, image_index) WHERE refusal IS NULL;
CREATE INDEX pending_open ON pending (arrival) WHERE refusal IS NULL;
CREATE INDEX pending_refused ON pending (refused_at) WHERE refusal IS NOT NULL;
COMMENT ON TABLE pending IS 'Signed envelopes that wait for the sequencer. Rows move to entries in one transaction, or stay a while with the reason of their refusal.';
COMMENT ON COLUMN pending.arrival IS 'Order of arrival, with gaps. Never a leaf index.';
COMMENT ON COLUMN pending.leaf_hash IS 'SHA-256(0x00 || envelope); the same envelope queues once.';
COMMENT ON COLUMN pending.envelope IS 'The canonical bytes of the signed envelope: the leaf data. At most 65,535 bytes, the limit of an entry bundle.';
COMMENT ON COLUMN pending.kind IS 'Kind of the entry inside the envelope.';
COMMENT ON COLUMN pending.request_id IS 'Request that the entry answers.';
COMMENT ON COLUMN pending.image_index IS 'Which image of the request, from 0; 0 for entries without an image.';
COMMENT ON COLUMN pending.client IS 'Client that asked.';
COMMENT ON COLUMN pending.enqueued_at IS 'When the row was queued, by the clock of the database.';
COMMENT ON COLUMN pending.refusal IS 'Why the sequencer refused the envelope; null while it waits.';
COMMENT ON COLUMN pending.refused_at IS 'When it was refused; refused rows are pruned after a while.';

-- Record ------------------------------------------------------------------------------------------------------

CREATE TABLE entries (
    leaf_index    bigint NOT NULL,
    leaf_hash     bytea NOT NULL,
    envelope      bytea NOT NULL,
    kind          text NOT NULL,
    request_id    text NOT NULL,
    image_index   bigint NOT NULL,
    client        text NOT NULL,
    created_at_ms bigint NOT NULL,
    integrated_at timestamptz NOT NULL DEFAULT now(),
    image_sha256  bytea,
    pixel_sha256  bytea,
    model_name    text,
    model_digest  bytea,
    verdict       text,
    CONSTRAINT entries_leaf_index_key PRIMARY KEY (leaf_index),
    CONSTRAINT entries_leaf_hash_unique UNIQUE (leaf_hash),
    CONSTRAINT entries_request_unique UNIQUE (client, kind, request_id, image_index),
    CONSTRAINT entries_leaf_index_not_negative CHECK (leaf_index >= 0),
    CONSTRAINT entries_leaf_hash_is_sha256 CHECK (octet_length(leaf_hash) = 32),
    CONSTRAINT entries_envelope_bytes_max CHECK (octet_length(envelope) BETWEEN 1 AND 65535),
    CONSTRAINT entries_image_index_not_negative CHECK (image_index >= 0),
    CONSTRAINT entries_created_at_not_negative CHECK (created_at_ms >= 0),
    CONSTRAINT entries_image_is_sha256 CHECK (octet_length(image_sha256) = 32),
    CONSTRAINT entries_pixel_is_sha256 CHECK (octet_length(pixel_sha256) = 32),
    CONSTRAINT entries_model_is_sha256 CHECK (octet_length(model_digest) = 32)
);
CREATE INDEX entries_by_time ON entries (created_at_ms, leaf_index);
CREATE INDEX entries_by_kind ON entries (kind, leaf_index);
CREATE INDEX entries_by_client ON entries (client, leaf_index);
CREATE INDEX entries_by_model_name ON entries (model_name, leaf_index) WHERE model_name IS NOT NULL;
CREATE INDEX entries_by_model_digest ON entries (model_digest, leaf_index) WHERE model_digest IS NOT NULL;
CREATE INDEX entries_by_image ON entries (image_sha256, leaf_index) WHERE image_sha256 IS NOT NULL;
CREATE INDEX entries_by_pixel ON entries (pixel_sha256, leaf_index) WHERE pixel_sha256 IS NOT NULL;
COMMENT ON TABLE entries IS 'The record: one row a leaf, append-only. Only leaf_index and envelope are the truth; all other columns are read out of the envelope, for searching, and `ledger check` compares them.';
COMMENT ON COLUMN entries.leaf_index IS 'Place in the log from 0, without gaps; counted by the sequencer, never by a database sequence.';
COMMENT ON COLUMN entries.leaf_hash IS 'SHA-256(0x00 || envelope).';
COMMENT ON COLUMN entries.envelope IS 'The canonical bytes of the signed envelope: the leaf data.';
COMMENT ON COLUMN entries.kind IS 'Kind of the entry.';
COMMENT ON COLUMN entries.request_id IS 'Request that the entry answers.';
COMMENT ON COLUMN entries.image_index IS 'Which image of the request, from 0; 0 for entries without an image.';
COMMENT ON COLUMN entries.client IS 'Client that asked.';
COMMENT ON COLUMN entries.created_at_ms IS 'Time that the entry states, in milliseconds since 1970 UTC. A claim of the signer, not a proof.';
COMMENT ON COLUMN entries.integrated_at IS 'When the sequencer recorded it, by the clock of the database. Not signed.';
COMMENT ON COLUMN entries.image_sha256 IS 'SHA-256 of the image file, for generations.';
COMMENT ON COLUMN entries.pixel_sha256 IS 'SHA-256 of the decoded pixels, for generations.';
COMMENT ON COLUMN entries.model_name IS 'Name of the generator, or of the detector for scores.';
COMMENT ON COLUMN entries.model_digest IS 'Digest over all parts of the generator, or of the detector for scores.';
COMMENT ON COLUMN entries.verdict IS 'Verdict, for scores.';

CREATE TABLE nodes (
    level      smallint NOT NULL,
    node_index bigint NOT NULL,
    hash       bytea NOT NULL,
    CONSTRAINT nodes_key PRIMARY KEY (level, node_index),
    CONSTRAINT nodes_level_range CHECK (level BETWEEN 0 AND 62),
    CONSTRAINT nodes_index_not_negative CHECK (node_index >= 0),
    CONSTRAINT nodes_hash_is_sha256 CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE nodes IS 'Merkle tree (RFC 6962): the root of every complete subtree, append-only. Incomplete subtrees are never stored.';
COMMENT ON COLUMN nodes.level IS 'Height of the subtree: it covers 2^level leaves; level 0 holds the leaf hashes.';
COMMENT ON COLUMN nodes.node_index IS 'Place in the level: the subtree covers leaves from node_index * 2^level on.';
COMMENT ON COLUMN nodes.hash IS 'Hash of the subtree.';

CREATE TABLE checkpoints (
    tree_size    bigint NOT NULL,
    root_hash    bytea NOT NULL,
    note         text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT checkpoints_tree_size_key PRIMARY KEY (tree_size),
    CONSTRAINT checkpoints_tree_size_not_negative CHECK (tree_size >= 0),
    CONSTRAINT checkpoints_root_hash_is_sha256 CHECK (octet_length(root_hash) = 32)
);
COMMENT ON TABLE checkpoints IS 'Signed tree heads that were published, append-only, at most one for each tree size.';
COMMENT ON COLUMN checkpoints.tree_size IS 'Number of entries that the checkpoint covers.';
COMMENT ON COLUMN checkpoints.root_hash IS 'Merkle root over these entries.';
COMMENT ON COLUMN checkpoints.note IS 'The signed note (C2SP tlog-checkpoint), byte for byte.';
COMMENT ON COLUMN checkpoints.published_at IS 'When it was published, by the clock of the database. Not signed.';

CREATE TABLE sequencer_lease (
    only_row      boolean NOT NULL DEFAULT true,
    holder        text NOT NULL,
    fencing_token bigint NOT NULL,
    expires_at    timestamptz NOT NULL,
    CONSTRAINT sequencer_lease_key PRIMARY KEY (only_row),
    CONSTRAINT sequencer_lease_one_row CHECK (only_row),
    CONSTRAINT sequencer_lease_token_not_negative CHECK (fencing_token >= 0)
);
INSERT INTO sequencer_lease (holder, fencing_token, expires_at) VALUES ('', 0, '-infinity');
COMMENT ON TABLE sequencer_lease IS 'Who may integrate and publish: one row, locked by every transaction that does.';
COMMENT ON COLUMN sequencer_lease.only_row IS 'Always true: there is one row.';
COMMENT ON COLUMN sequencer_lease.holder IS 'Name of the process that holds the lease; empty before the first.';
COMMENT ON COLUMN sequencer_lease.fencing_token IS 'Grows with each new holder; a transaction with an older token is refused.';
COMMENT ON COLUMN sequencer_lease.expires_at IS 'Until when the holder may work without a heartbeat, by the clock of the database.';

-- What may be forgotten ---------------------------------------------------------------------------------------

CREATE TABLE prompts (
    leaf_hash bytea NOT NULL,
    salt      bytea NOT NULL,
    prompt    text NOT NULL,
    kept_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT prompts_leaf_hash_key PRIMARY KEY (leaf_hash),
    CONSTRAINT prompts_leaf_hash_is_sha256 CHECK (octet_length(leaf_hash) = 32),
    CONSTRAINT prompts_salt_is_32_bytes CHECK (octet_length(salt) = 32)
);
COMMENT ON TABLE prompts IS 'What opens the prompt commitments of entries. Rows may be erased: the log stays valid without them.';
COMMENT ON COLUMN prompts.leaf_hash IS 'Entry whose commitment this opens.';
COMMENT ON COLUMN prompts.salt IS 'The random salt of the commitment, 32 bytes.';
COMMENT ON COLUMN prompts.prompt IS 'The prompt as it was given.';
COMMENT ON COLUMN prompts.kept_at IS 'Since when it is kept.';

-- Clients -----------------------------------------------------------------------------------------------------

CREATE TABLE clients (
    client_id    bigint GENERATED ALWAYS AS IDENTITY,
    name         text NOT NULL,
    key_sha256   bytea NOT NULL,
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at   timestamptz,
    CONSTRAINT clients_key PRIMARY KEY (client_id),
    CONSTRAINT clients_key_unique UNIQUE (key_sha256),
    CONSTRAINT clients_key_is_sha256 CHECK (octet_length(key_sha256) = 32),
    CONSTRAINT clients_name_length CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT clients_scopes_known CHECK (scopes <@ ARRAY['generate', 'score', 'audit', 'admin'] AND cardinality(scopes) > 0)
);
CREATE UNIQUE INDEX clients_name_unique ON clients (name) WHERE revoked_at IS NULL;
COMMENT ON TABLE clients IS 'API keys of clients. A revoked row stays, and its name becomes free.';
COMMENT ON COLUMN clients.client_id IS 'Identity of the row.';
COMMENT ON COLUMN clients.name IS 'Name of the client, as entries state it; one valid key a name.';
COMMENT ON COLUMN clients.key_sha256 IS 'SHA-256 of the key; the key itself is shown once and never kept.';
COMMENT ON COLUMN clients.scopes IS 'What the key allows: generate, score, audit, admin.';
COMMENT ON COLUMN clients.created_at IS 'When the key was made.';
COMMENT ON COLUMN clients.last_used_at IS 'When the key was last used, to about a minute.';
COMMENT ON COLUMN clients.revoked_at IS 'When the key was revoked; null while it is valid.';

-- Fences ------------------------------------------------------------------------------------------------------

CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER nodes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON nodes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER checkpoints_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Replication sessions skip ordinary triggers; these fire for them too.
ALTER TABLE entries ENABLE ALWAYS TRIGGER entries_append_only;
ALTER TABLE nodes ENABLE ALWAYS TRIGGER nodes_append_only;
ALTER TABLE checkpoints ENABLE ALWAYS TRIGGER checkpoints_append_only;

GRANT SELECT, INSERT ON entries, nodes, checkpoints TO retrace_app;
GRANT SELECT, INSERT, DELETE ON pending, prompts TO retrace_app;
GRANT UPDATE (refusal, refused_at) ON pending TO retrace_app;
GRANT SELECT, UPDATE ON sequencer_lease TO retrace_app;
GRANT SELECT, INSERT ON clients TO retrace_app;
GRANT UPDATE (last_used_at, revoked_at) ON clients TO retrace_app;

-- A login with the rights of the service alone sees that there is nothing to migrate, and need not own anything.
DO $$
BEGIN
    IF to_regclass('_sqlx_migrations') IS NOT NULL THEN
        GRANT SELECT ON _sqlx_migrations TO retrace_app;
    END IF;
END
$$;
