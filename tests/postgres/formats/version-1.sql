-- A queue of schema version 1, dumped by pg_dump 18.4 --inserts after an aqueue 0.1 of that version had worked on it.
CREATE SCHEMA aqueue;
CREATE TABLE aqueue.chosen_id (
    id text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE aqueue.job (
    seq bigint NOT NULL,
    ended boolean NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    queue text NOT NULL COLLATE pg_catalog."C",
    rank integer NOT NULL,
    due timestamp with time zone NOT NULL,
    ready boolean NOT NULL,
    tags text[] NOT NULL,
    changed timestamp with time zone NOT NULL,
    record json NOT NULL,
    stdout bytea,
    stderr bytea,
    begun integer DEFAULT 0 NOT NULL,
    pool text,
    host text,
    worker integer,
    token text,
    started timestamp with time zone,
    cancel boolean DEFAULT false NOT NULL,
    awaited boolean DEFAULT false NOT NULL
)
PARTITION BY LIST (ended);
CREATE TABLE aqueue.job_active (
    seq bigint CONSTRAINT job_seq_not_null NOT NULL,
    ended boolean CONSTRAINT job_ended_not_null NOT NULL,
    id text CONSTRAINT job_id_not_null NOT NULL COLLATE pg_catalog."C",
    state text CONSTRAINT job_state_not_null NOT NULL COLLATE pg_catalog."C",
    queue text CONSTRAINT job_queue_not_null NOT NULL COLLATE pg_catalog."C",
    rank integer CONSTRAINT job_rank_not_null NOT NULL,
    due timestamp with time zone CONSTRAINT job_due_not_null NOT NULL,
    ready boolean CONSTRAINT job_ready_not_null NOT NULL,
    tags text[] CONSTRAINT job_tags_not_null NOT NULL,
    changed timestamp with time zone CONSTRAINT job_changed_not_null NOT NULL,
    record json CONSTRAINT job_record_not_null NOT NULL,
    stdout bytea,
    stderr bytea,
    begun integer DEFAULT 0 CONSTRAINT job_begun_not_null NOT NULL,
    pool text,
    host text,
    worker integer,
    token text,
    started timestamp with time zone,
    cancel boolean DEFAULT false CONSTRAINT job_cancel_not_null NOT NULL,
    awaited boolean DEFAULT false CONSTRAINT job_awaited_not_null NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_cost_delay='0');
CREATE TABLE aqueue.job_ended (
    seq bigint CONSTRAINT job_seq_not_null NOT NULL,
    ended boolean CONSTRAINT job_ended_not_null NOT NULL,
    id text CONSTRAINT job_id_not_null NOT NULL COLLATE pg_catalog."C",
    state text CONSTRAINT job_state_not_null NOT NULL COLLATE pg_catalog."C",
    queue text CONSTRAINT job_queue_not_null NOT NULL COLLATE pg_catalog."C",
    rank integer CONSTRAINT job_rank_not_null NOT NULL,
    due timestamp with time zone CONSTRAINT job_due_not_null NOT NULL,
    ready boolean CONSTRAINT job_ready_not_null NOT NULL,
    tags text[] CONSTRAINT job_tags_not_null NOT NULL,
    changed timestamp with time zone CONSTRAINT job_changed_not_null NOT NULL,
    record json CONSTRAINT job_record_not_null NOT NULL,
    stdout bytea,
    stderr bytea,
    begun integer DEFAULT 0 CONSTRAINT job_begun_not_null NOT NULL,
    pool text,
    host text,
    worker integer,
    token text,
    started timestamp with time zone,
    cancel boolean DEFAULT false CONSTRAINT job_cancel_not_null NOT NULL,
    awaited boolean DEFAULT false CONSTRAINT job_awaited_not_null NOT NULL
);
CREATE SEQUENCE aqueue.job_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE aqueue.pool (
    run text NOT NULL,
    host text NOT NULL,
    home text NOT NULL,
    info json NOT NULL,
    beat timestamp with time zone NOT NULL,
    lease interval NOT NULL,
    stop text
);
CREATE TABLE aqueue.queue (
    name text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE aqueue.version (
    version integer NOT NULL
);
ALTER TABLE ONLY aqueue.job ATTACH PARTITION aqueue.job_active FOR VALUES IN (false);
ALTER TABLE ONLY aqueue.job ATTACH PARTITION aqueue.job_ended FOR VALUES IN (true);
INSERT INTO aqueue.chosen_id VALUES ('hello');
INSERT INTO aqueue.chosen_id VALUES ('doomed');
INSERT INTO aqueue.chosen_id VALUES ('killed');
INSERT INTO aqueue.chosen_id VALUES ('again');
INSERT INTO aqueue.chosen_id VALUES ('gone');
INSERT INTO aqueue.chosen_id VALUES ('urgent');
INSERT INTO aqueue.chosen_id VALUES ('later');
INSERT INTO aqueue.chosen_id VALUES ('never');
INSERT INTO aqueue.chosen_id VALUES ('waits');
INSERT INTO aqueue.job_active VALUES (7, false, 'urgent', 'pending', 'mails', -7, '2026-11-26 21:01:38.579926+00', true, '{}', '2026-11-26 21:01:38.579926+00', '{"id":"urgent","seq":7,"command":"echo $A","created_at":"2026-11-26T21:01:38.579926Z","queue":"mails","priority":7,"timeout":5.0,"backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/tmp/demo","env":{"A":"b\\c"}}', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_active VALUES (8, false, 'later', 'pending', 'default', 0, '2100-01-01 00:00:00+00', false, '{}', '2026-11-26 21:01:38.827185+00', '{"id":"later","seq":8,"command":"true","created_at":"2026-11-26T21:01:38.827185Z","run_at":"2100-01-01T00:00:00Z","backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/tmp/demo"}', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_active VALUES (5, false, 'again', 'failed', 'default', 0, '2026-11-26 21:18:17.938727+00', false, '{}', '2026-11-26 21:01:37.938727+00', '{"id":"again","seq":5,"command":"echo not yet; exit 1","created_at":"2026-11-26T21:01:37.926034Z","state":"failed","attempts":1,"updated_at":"2026-11-26T21:01:37.938727Z","queue":"default","run_at":"2026-11-26T21:18:17.938727Z","backoff_base":1000.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/tmp/demo","history":[{"started_at":"2026-11-26T21:01:37.927968Z","worker":2,"token":"5b1214ce1f.2.5-1","pid":5114,"finished_at":"2026-11-26T21:01:37.940035Z","exit_code":1,"host":"demo"}]}', '\x6e6f74207965740a', NULL, 1, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_active VALUES (10, false, 'waits', 'pending', 'default', 0, '2026-11-26 21:01:39.556379+00', true, '{}', '2026-11-26 21:01:39.556379+00', '{"id":"waits","seq":10,"command":"printf ''a\\000b''","created_at":"2026-11-26T21:01:39.556379Z","backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/tmp/demo"}', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_ended VALUES (1, true, 'hello', 'completed', 'default', 0, '2026-11-26 21:01:37.413535+00', false, '{demo}', '2026-11-26 21:01:37.420129+00', '{"id":"hello","seq":1,"command":"echo hello; echo oh dear >&2","created_at":"2026-11-26T21:01:37.413535Z","state":"completed","attempts":1,"updated_at":"2026-11-26T21:01:37.420129Z","queue":"default","backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/tmp/demo","tags":["demo"],"history":[{"started_at":"2026-11-26T21:01:37.418659Z","worker":1,"token":"5b1214ce1f.1.1-1","pid":5095,"finished_at":"2026-11-26T21:01:37.422315Z","exit_code":0,"host":"demo"}]}', '\x68656c6c6f0a', '\x6f6820646561720a', 1, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_ended VALUES (2, true, 'doomed', 'dead', 'default', 0, '2026-11-26 21:01:37.616193+00', false, '{}', '2026-11-26 21:01:37.628461+00', '{"id":"doomed","seq":2,"command":"echo no such luck >&2; exit 3","created_at":"2026-11-26T21:01:37.509616Z","state":"dead","attempts":2,"max_retries":1,"updated_at":"2026-11-26T21:01:37.628461Z","queue":"default","run_at":"2026-11-26T21:01:37.616193Z","backoff_base":0.1,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/tmp/demo","history":[{"started_at":"2026-11-26T21:01:37.514027Z","worker":2,"token":"5b1214ce1f.2.2-1","pid":5099,"finished_at":"2026-11-26T21:01:37.518657Z","exit_code":3,"host":"demo"},{"started_at":"2026-11-26T21:01:37.622936Z","worker":3,"token":"5b1214ce1f.3.2-2","pid":5102,"finished_at":"2026-11-26T21:01:37.625752Z","exit_code":3,"host":"demo"}]}', NULL, '\x6e6f2073756368206c75636b0a', 2, NULL, NULL, NULL, NULL, NULL, false, true);
INSERT INTO aqueue.job_ended VALUES (3, true, 'killed', 'dead', 'default', 0, '2026-11-26 21:01:37.720191+00', false, '{}', '2026-11-26 21:01:37.727681+00', '{"id":"killed","seq":3,"command":"kill -9 $$","created_at":"2026-11-26T21:01:37.720191Z","state":"dead","attempts":1,"max_retries":0,"updated_at":"2026-11-26T21:01:37.727681Z","queue":"default","backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/tmp/demo","history":[{"started_at":"2026-11-26T21:01:37.726616Z","worker":4,"token":"5b1214ce1f.4.3-1","pid":5107,"finished_at":"2026-11-26T21:01:37.729566Z","signal":9,"host":"demo"}]}', NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, false, true);
INSERT INTO aqueue.job_ended VALUES (4, true, 'j0004', 'completed', 'default', 0, '2026-11-26 21:01:37.827831+00', false, '{}', '2026-11-26 21:01:37.834762+00', '{"id":"j0004","seq":4,"command":"true","created_at":"2026-11-26T21:01:37.827831Z","state":"completed","attempts":1,"updated_at":"2026-11-26T21:01:37.834762Z","queue":"default","backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/tmp/demo","history":[{"started_at":"2026-11-26T21:01:37.833993Z","worker":1,"token":"5b1214ce1f.1.4-1","pid":5111,"finished_at":"2026-11-26T21:01:37.836646Z","exit_code":0,"host":"demo"}]}', NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_ended VALUES (9, true, 'never', 'cancelled', 'default', 0, '2026-11-26 21:01:39.070521+00', false, '{}', '2026-11-26 21:01:39.30484+00', '{"id":"never","seq":9,"command":"true","created_at":"2026-11-26T21:01:39.070521Z","state":"cancelled","updated_at":"2026-11-26T21:01:39.304840Z","backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/tmp/demo"}', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.queue VALUES ('default');
INSERT INTO aqueue.queue VALUES ('mails');
INSERT INTO aqueue.version VALUES (1);
SELECT pg_catalog.setval('aqueue.job_seq', 10, true);
ALTER TABLE ONLY aqueue.chosen_id
    ADD CONSTRAINT chosen_id_pkey PRIMARY KEY (id);
ALTER TABLE ONLY aqueue.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (seq, ended);
ALTER TABLE ONLY aqueue.job_active
    ADD CONSTRAINT job_active_pkey PRIMARY KEY (seq, ended);
ALTER TABLE ONLY aqueue.job_ended
    ADD CONSTRAINT job_ended_pkey PRIMARY KEY (seq, ended);
ALTER TABLE ONLY aqueue.pool
    ADD CONSTRAINT pool_pkey PRIMARY KEY (run);
ALTER TABLE ONLY aqueue.queue
    ADD CONSTRAINT queue_pkey PRIMARY KEY (name);
CREATE INDEX job_active_failed ON aqueue.job_active USING btree (seq) WHERE (state = 'failed'::text);
CREATE UNIQUE INDEX job_active_id ON aqueue.job_active USING btree (id);
CREATE INDEX job_active_later ON aqueue.job_active USING btree (state, due) WHERE ((NOT ready) AND (state = ANY (ARRAY['pending'::text, 'failed'::text])));
CREATE INDEX job_active_ready ON aqueue.job_active USING btree (queue, rank, due, seq) WHERE ready;
CREATE INDEX job_active_running ON aqueue.job_active USING btree (pool) WHERE (state = 'processing'::text);
CREATE INDEX job_ended_cancelled ON aqueue.job_ended USING btree (seq) WHERE (state = 'cancelled'::text);
CREATE INDEX job_ended_changed ON aqueue.job_ended USING btree (changed) WHERE (state = ANY (ARRAY['completed'::text, 'cancelled'::text]));
CREATE INDEX job_ended_dead ON aqueue.job_ended USING btree (seq) WHERE (state = 'dead'::text);
CREATE UNIQUE INDEX job_ended_id ON aqueue.job_ended USING btree (id);
ALTER INDEX aqueue.job_pkey ATTACH PARTITION aqueue.job_active_pkey;
ALTER INDEX aqueue.job_pkey ATTACH PARTITION aqueue.job_ended_pkey;
