-- Which times lie in which part of the log: a search by time begins where the first of them may be, and does not
-- read its way there. Times are claims and need not rise with the leaf index, so an index over them alone cannot
-- tell.

CREATE TABLE entry_times (
    block     bigint NOT NULL,
    first_ms  bigint NOT NULL,
    last_ms   bigint NOT NULL,
    CONSTRAINT entry_times_key PRIMARY KEY (block),
    CONSTRAINT entry_times_block_counts CHECK (block >= 0),
    CONSTRAINT entry_times_in_order CHECK (first_ms <= last_ms)
);
COMMENT ON TABLE entry_times IS 'Derived: the earliest and the latest time that the entries of each block of 1,024 leaf indexes state. Kept by a trigger; `ledger check` compares it.';
COMMENT ON COLUMN entry_times.block IS 'Leaf index divided by 1,024, rounded down.';
COMMENT ON COLUMN entry_times.first_ms IS 'Earliest created_at_ms of the block.';
COMMENT ON COLUMN entry_times.last_ms IS 'Latest created_at_ms of the block.';

INSERT INTO entry_times (block, first_ms, last_ms)
SELECT leaf_index / 1024, min(created_at_ms), max(created_at_ms) FROM entries GROUP BY 1;

-- Its owner writes: the service itself may only read. Named in full, so that no search path leads elsewhere.
DO $$
BEGIN
    EXECUTE format($function$
        CREATE FUNCTION %1$I.note_entry_times() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS $body$
        BEGIN
            INSERT INTO %1$I.entry_times AS known (block, first_ms, last_ms)
            SELECT leaf_index / 1024, min(created_at_ms), max(created_at_ms) FROM added GROUP BY 1
            ON CONFLICT (block) DO UPDATE SET
                first_ms = least(known.first_ms, excluded.first_ms),
                last_ms = greatest(known.last_ms, excluded.last_ms);
            RETURN NULL;
        END
        $body$
    $function$, current_schema());
END
$$;
CREATE TRIGGER entries_note_times AFTER INSERT ON entries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION note_entry_times();
ALTER TABLE entries ENABLE ALWAYS TRIGGER entries_note_times;

GRANT SELECT ON entry_times TO retrace_app;
