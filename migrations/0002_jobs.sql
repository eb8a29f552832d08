-- Jobs: work that waits for a worker on any machine. A job's end and the entries that it makes are written in one
-- transaction under the job's fencing token, so that a worker that dies in the middle loses no job and a worker that
-- was thought dead records nothing beside its successor.

CREATE TABLE jobs (
    job_number         bigint GENERATED ALWAYS AS IDENTITY,
    job_id             text NOT NULL,
    client             text NOT NULL,
    idempotency_sha256 bytea,
    request_id         text NOT NULL,
    images             integer NOT NULL,
    client_order       text,
    state              text NOT NULL DEFAULT 'waiting',
    cancel_requested   boolean NOT NULL DEFAULT false,
    attempts           integer NOT NULL DEFAULT 0,
    fencing_token      bigint NOT NULL DEFAULT 0,
    holder             text,
    lease_expires_at   timestamptz,
    run_after          timestamptz NOT NULL DEFAULT '-infinity',
    last_event         bigint NOT NULL DEFAULT 0,
    enqueued_at        timestamptz NOT NULL DEFAULT now(),
    started_at         timestamptz,
    ended_at           timestamptz,
    outcome            text,
    problem            text,
    CONSTRAINT jobs_job_number_key PRIMARY KEY (job_number),
    CONSTRAINT jobs_job_id_unique UNIQUE (job_id),
    CONSTRAINT jobs_request_unique UNIQUE (client, request_id),
    CONSTRAINT jobs_idempotency_unique UNIQUE (client, idempotency_sha256),
    CONSTRAINT jobs_idempotency_is_sha256 CHECK (octet_length(idempotency_sha256) = 32),
    CONSTRAINT jobs_images_positive CHECK (images > 0),
    CONSTRAINT jobs_state_known CHECK (state IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT jobs_attempts_not_negative CHECK (attempts >= 0),
    CONSTRAINT jobs_token_not_negative CHECK (fencing_token >= 0),
    -- The order holds the prompt and uploaded pictures: it stays no longer than the work needs it.
    CONSTRAINT jobs_order_erased_at_end CHECK ((client_order IS NULL) = (state IN ('succeeded', 'failed', 'cancelled'))),
    CONSTRAINT jobs_end_dated CHECK ((ended_at IS NULL) = (state IN ('waiting', 'running'))),
    CONSTRAINT jobs_running_is_leased CHECK ((state = 'running') = (lease_expires_at IS NOT NULL AND holder IS NOT NULL)),
    CONSTRAINT jobs_failure_has_problem CHECK ((state = 'failed') = (problem IS NOT NULL))
);
CREATE INDEX jobs_waiting ON jobs (job_number) WHERE state = 'waiting';
CREATE INDEX jobs_running ON jobs (lease_expires_at) WHERE state = 'running';
CREATE INDEX jobs_by_client ON jobs (client, job_number);
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
COMMENT ON TABLE jobs IS 'Work that waits for a worker, runs, or has ended. Rows are pruned a while after their end; entries stay.';
COMMENT ON COLUMN jobs.job_number IS 'Order of arrival, with gaps: the queue is served in this order.';
COMMENT ON COLUMN jobs.job_id IS 'The random name that clients know.';
COMMENT ON COLUMN jobs.client IS 'Client that asked; nobody else sees the job.';
COMMENT ON COLUMN jobs.idempotency_sha256 IS 'Digest over client and Idempotency-Key; null when none was sent.';
COMMENT ON COLUMN jobs.request_id IS 'Request that the entries of this job answer; the same in every attempt, so that none is recorded twice.';
COMMENT ON COLUMN jobs.images IS 'Number of images asked for.';
COMMENT ON COLUMN jobs.client_order IS 'The order as JSON, prompt and uploads included; erased when the job ends.';
COMMENT ON COLUMN jobs.state IS 'waiting, running, succeeded, failed or cancelled.';
COMMENT ON COLUMN jobs.cancel_requested IS 'Whether a running job is to stop; from then on it can record nothing.';
COMMENT ON COLUMN jobs.attempts IS 'How many workers began and did not hand it back in order.';
COMMENT ON COLUMN jobs.fencing_token IS 'Grows with each claim; a worker with an older token is refused.';
COMMENT ON COLUMN jobs.holder IS 'Name of the worker that runs it.';
COMMENT ON COLUMN jobs.lease_expires_at IS 'Until when that worker may be silent, by the clock of the database.';
COMMENT ON COLUMN jobs.run_after IS 'Before this time nobody claims it: a pause after a failure that may pass.';
COMMENT ON COLUMN jobs.last_event IS 'Sequence number of its newest event.';
COMMENT ON COLUMN jobs.enqueued_at IS 'When it was queued, by the clock of the database.';
COMMENT ON COLUMN jobs.started_at IS 'When the newest attempt began.';
COMMENT ON COLUMN jobs.ended_at IS 'When it ended.';
COMMENT ON COLUMN jobs.outcome IS 'What a succeeded job tells beside its entries, as JSON, without the prompt.';
COMMENT ON COLUMN jobs.problem IS 'Why a job failed, as JSON fit for the public.';

CREATE TABLE job_events (
    job_number  bigint NOT NULL,
    sequence    bigint NOT NULL,
    kind        text NOT NULL,
    image_index integer,
    step_index  integer,
    steps       integer,
    happened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT job_events_key PRIMARY KEY (job_number, sequence),
    CONSTRAINT job_events_of_job FOREIGN KEY (job_number) REFERENCES jobs (job_number) ON DELETE CASCADE,
    CONSTRAINT job_events_sequence_positive CHECK (sequence > 0),
    CONSTRAINT job_events_kind_known CHECK (kind IN
        ('waiting', 'running', 'progress', 'handed_back', 'cancelling', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT job_events_progress_is_whole CHECK
        ((kind = 'progress') = (image_index IS NOT NULL AND step_index IS NOT NULL AND steps IS NOT NULL))
);
COMMENT ON TABLE job_events IS 'What happened to a job, in order, for clients that follow it and come back after a broken connection.';
COMMENT ON COLUMN job_events.job_number IS 'The job.';
COMMENT ON COLUMN job_events.sequence IS 'Place among the events of the job, from 1; the id that a client resumes from.';
COMMENT ON COLUMN job_events.kind IS 'What happened.';
COMMENT ON COLUMN job_events.image_index IS 'Image at work, from 0, for progress.';
COMMENT ON COLUMN job_events.step_index IS 'Step just done, from 0, for progress.';
COMMENT ON COLUMN job_events.steps IS 'Steps of each image, for progress.';
COMMENT ON COLUMN job_events.happened_at IS 'When it happened, by the clock of the database.';

-- What a client is shown. A job counts as succeeded only when a published checkpoint covers all of its entries.
CREATE VIEW job_views AS
SELECT jobs.job_number,
       jobs.job_id,
       jobs.client,
       jobs.request_id,
       jobs.images,
       jobs.state,
       jobs.cancel_requested,
       jobs.attempts,
       jobs.last_event,
       jobs.outcome,
       jobs.problem,
       (extract(epoch FROM jobs.enqueued_at) * 1000)::bigint AS enqueued_at_ms,
       (extract(epoch FROM jobs.started_at) * 1000)::bigint AS started_at_ms,
       (extract(epoch FROM jobs.ended_at) * 1000)::bigint AS ended_at_ms,
       CASE WHEN jobs.state = 'waiting' THEN
           (SELECT count(*) FROM jobs AS earlier
            WHERE earlier.state = 'waiting' AND earlier.job_number <= jobs.job_number)
       END AS queue_position,
       CASE WHEN jobs.state = 'succeeded' THEN
           (SELECT count(*) FROM entries
            WHERE entries.client = jobs.client AND entries.kind = 'generation'
              AND entries.request_id = jobs.request_id)
       END AS recorded,
       CASE WHEN jobs.state = 'succeeded' THEN
           (SELECT count(*) FROM entries
            WHERE entries.client = jobs.client AND entries.kind = 'generation'
              AND entries.request_id = jobs.request_id
              AND entries.leaf_index < (SELECT max(tree_size) FROM checkpoints))
       END AS covered,
       CASE WHEN jobs.state = 'succeeded' THEN
           EXISTS (SELECT FROM pending
                   WHERE pending.client = jobs.client AND pending.kind = 'generation'
                     AND pending.request_id = jobs.request_id AND pending.refusal IS NULL)
       END AS is_pending,
       progress.image_index,
       progress.step_index,
       progress.steps
FROM jobs
LEFT JOIN LATERAL (
    SELECT job_events.image_index, job_events.step_index, job_events.steps
    FROM job_events
    WHERE job_events.job_number = jobs.job_number AND job_events.kind = 'progress'
    ORDER BY job_events.sequence DESC
    LIMIT 1
) AS progress ON true;
COMMENT ON VIEW job_views IS 'Jobs as their clients see them, with their place in the queue and how many of their entries a checkpoint covers.';
COMMENT ON COLUMN job_views.job_number IS 'Order of arrival.';
COMMENT ON COLUMN job_views.job_id IS 'The name that clients know.';
COMMENT ON COLUMN job_views.client IS 'Client that asked.';
COMMENT ON COLUMN job_views.request_id IS 'Request that the entries answer.';
COMMENT ON COLUMN job_views.images IS 'Number of images asked for.';
COMMENT ON COLUMN job_views.state IS 'State of the row; see recorded, covered and is_pending for the ends of a success.';
COMMENT ON COLUMN job_views.cancel_requested IS 'Whether it is to stop.';
COMMENT ON COLUMN job_views.attempts IS 'How many workers began.';
COMMENT ON COLUMN job_views.last_event IS 'Sequence number of its newest event.';
COMMENT ON COLUMN job_views.outcome IS 'What it tells beside its entries, as JSON.';
COMMENT ON COLUMN job_views.problem IS 'Why it failed, as JSON.';
COMMENT ON COLUMN job_views.enqueued_at_ms IS 'When it was queued, in milliseconds since 1970 UTC.';
COMMENT ON COLUMN job_views.started_at_ms IS 'When the newest attempt began.';
COMMENT ON COLUMN job_views.ended_at_ms IS 'When it ended.';
COMMENT ON COLUMN job_views.queue_position IS 'Place among the waiting jobs, from 1; null for others.';
COMMENT ON COLUMN job_views.recorded IS 'Entries of its request that are recorded; null unless the row is succeeded.';
COMMENT ON COLUMN job_views.covered IS 'Of these, how many a published checkpoint covers.';
COMMENT ON COLUMN job_views.is_pending IS 'Whether entries of its request wait for the sequencer.';
COMMENT ON COLUMN job_views.image_index IS 'Image of its newest progress.';
COMMENT ON COLUMN job_views.step_index IS 'Step of its newest progress.';
COMMENT ON COLUMN job_views.steps IS 'Steps of each image.';

GRANT SELECT, INSERT, DELETE ON jobs, job_events TO retrace_app;
GRANT UPDATE (state, client_order, cancel_requested, attempts, fencing_token, holder, lease_expires_at, run_after,
              last_event, started_at, ended_at, outcome, problem) ON jobs TO retrace_app;
GRANT SELECT ON job_views TO retrace_app;
