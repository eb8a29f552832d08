//! The append-only ledger on Postgres: append, sequencer, proofs, keys of clients, the private cluster.
