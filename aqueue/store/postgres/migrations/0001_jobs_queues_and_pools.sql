-- One table of jobs, in two parts: what waits or runs, and what has ended. The first stays small and is vacuumed often,
-- so that claims cost the same beside ten million ended jobs as beside none; a job moves when its state changes. A
-- waiting job is `ready` once its time has come: only ready jobs are in the index that claims scan.

CREATE TABLE aqueue.job (
    seq bigint NOT NULL,
    ended boolean NOT NULL,
    id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    rank integer NOT NULL,              -- minus its priority: claims go from low to high
    due timestamptz NOT NULL,
    ready boolean NOT NULL,
    tags text[] NOT NULL,
    changed timestamptz NOT NULL,
    record json NOT NULL,               -- the job as it was before the attempt that runs
    stdout bytea,
    stderr bytea,
    begun integer NOT NULL DEFAULT 0,   -- attempts, the running one included
    pool text,                          -- of the attempt that runs: whose it is, and what names it
    host text,
    worker integer,
    token text,
    started timestamptz,
    cancel boolean NOT NULL DEFAULT false,
    awaited boolean NOT NULL DEFAULT false,
    PRIMARY KEY (seq, ended)
) PARTITION BY LIST (ended);
CREATE TABLE aqueue.job_active PARTITION OF aqueue.job FOR VALUES IN (false)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
          autovacuum_vacuum_cost_delay = 0);
CREATE TABLE aqueue.job_ended PARTITION OF aqueue.job FOR VALUES IN (true);
CREATE UNIQUE INDEX job_active_id ON aqueue.job_active (id);
CREATE UNIQUE INDEX job_ended_id ON aqueue.job_ended (id);
CREATE INDEX job_active_ready ON aqueue.job_active (queue, rank, due, seq) WHERE ready;
CREATE INDEX job_active_later ON aqueue.job_active (state, due) WHERE NOT ready AND state IN ('pending', 'failed');
CREATE INDEX job_active_running ON aqueue.job_active (pool) WHERE state = 'processing';
CREATE INDEX job_active_failed ON aqueue.job_active (seq) WHERE state = 'failed';
CREATE INDEX job_ended_changed ON aqueue.job_ended (changed) WHERE state IN ('completed', 'cancelled');
CREATE INDEX job_ended_dead ON aqueue.job_ended (seq) WHERE state = 'dead';
CREATE INDEX job_ended_cancelled ON aqueue.job_ended (seq) WHERE state = 'cancelled';
CREATE SEQUENCE aqueue.job_seq;
CREATE TABLE aqueue.queue (name text COLLATE "C" PRIMARY KEY);
CREATE TABLE aqueue.chosen_id (id text COLLATE "C" PRIMARY KEY);  -- also of jobs that were removed
CREATE TABLE aqueue.pool (
    run text PRIMARY KEY,
    host text NOT NULL,
    home text NOT NULL,                 -- names the directory of its files among those of all hosts
    info json NOT NULL,
    beat timestamptz NOT NULL,
    lease interval NOT NULL,
    stop text
);
