-- An envelope of a generation has some 2.3 KB, just over what Postgres tries to compress and to move into a table
-- of its own. That costs a fifth of its processor time for an append and saves little: the envelope is mostly
-- digests in base64. Rows up to a page stay where they are, as they are.
ALTER TABLE entries SET (toast_tuple_target = 8160);
ALTER TABLE pending SET (toast_tuple_target = 8160);
