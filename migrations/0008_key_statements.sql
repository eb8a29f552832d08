-- Statements about the entry key: what the sequencer refuses besides.

ALTER TABLE pending DROP CONSTRAINT pending_refusal_known;
ALTER TABLE pending ADD CONSTRAINT pending_refusal_known CHECK (
    refusal IN ('bad_signature', 'unreadable', 'request_conflict', 'key_retired', 'key_statement')
);
COMMENT ON COLUMN pending.refusal IS 'Why the sequencer refused the envelope; null while it waits. key_retired: another entry key has followed the one that signed it; key_statement: what it says about keys breaks a rule.';
