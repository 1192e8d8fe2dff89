-- A queue that version 0.1 of the program made and worked on, as pg_dump wrote it
-- (--inserts --schema=aqueue), without what only psql or the newest servers understand.

--
-- PostgreSQL database dump
--

-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: aqueue; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA aqueue;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: chosen_id; Type: TABLE; Schema: aqueue; Owner: -
--

CREATE TABLE aqueue.chosen_id (
    id text NOT NULL COLLATE pg_catalog."C"
);

--
-- Name: job; Type: TABLE; Schema: aqueue; Owner: -
--

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

--
-- Name: job_active; Type: TABLE; Schema: aqueue; Owner: -
--

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

--
-- Name: job_ended; Type: TABLE; Schema: aqueue; Owner: -
--

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

--
-- Name: job_seq; Type: SEQUENCE; Schema: aqueue; Owner: -
--

CREATE SEQUENCE aqueue.job_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

--
-- Name: pool; Type: TABLE; Schema: aqueue; Owner: -
--

CREATE TABLE aqueue.pool (
    run text NOT NULL,
    host text NOT NULL,
    home text NOT NULL,
    info json NOT NULL,
    beat timestamp with time zone NOT NULL,
    lease interval NOT NULL,
    stop text
);

--
-- Name: queue; Type: TABLE; Schema: aqueue; Owner: -
--

CREATE TABLE aqueue.queue (
    name text NOT NULL COLLATE pg_catalog."C"
);

--
-- Name: version; Type: TABLE; Schema: aqueue; Owner: -
--

CREATE TABLE aqueue.version (
    version integer NOT NULL
);

--
-- Name: job_active; Type: TABLE ATTACH; Schema: aqueue; Owner: -
--

ALTER TABLE ONLY aqueue.job ATTACH PARTITION aqueue.job_active FOR VALUES IN (false);

--
-- Name: job_ended; Type: TABLE ATTACH; Schema: aqueue; Owner: -
--

ALTER TABLE ONLY aqueue.job ATTACH PARTITION aqueue.job_ended FOR VALUES IN (true);

--
-- Data for Name: chosen_id; Type: TABLE DATA; Schema: aqueue; Owner: -
--

INSERT INTO aqueue.chosen_id VALUES ('completed');
INSERT INTO aqueue.chosen_id VALUES ('dead');
INSERT INTO aqueue.chosen_id VALUES ('failed');
INSERT INTO aqueue.chosen_id VALUES ('removed');
INSERT INTO aqueue.chosen_id VALUES ('killed');
INSERT INTO aqueue.chosen_id VALUES ('pending');
INSERT INTO aqueue.chosen_id VALUES ('delayed');
INSERT INTO aqueue.chosen_id VALUES ('cancelled');

--
-- Data for Name: job_active; Type: TABLE DATA; Schema: aqueue; Owner: -
--

INSERT INTO aqueue.job_active VALUES (3, false, 'failed', 'failed', 'mails', 0, '2026-11-26 22:09:41.285994+00', false, '{}', '2026-11-26 21:19:41.285994+00', '{"id":"failed","seq":3,"command":"exit 1","created_at":"2026-11-26T21:19:41.239506Z","state":"failed","attempts":1,"max_retries":5,"updated_at":"2026-11-26T21:19:41.285994Z","queue":"mails","run_at":"2026-11-26T22:09:41.285994Z","backoff_base":3000.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/srv","history":[{"started_at":"2026-11-26T21:19:41.258808Z","worker":2,"token":"a4e9cc2190.2.3-1","pid":20633,"finished_at":"2026-11-26T21:19:41.280745Z","exit_code":1,"host":"alpha"}]}', NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_active VALUES (6, false, 'pending', 'pending', 'default', 0, '2026-11-26 21:19:43.05022+00', true, '{}', '2026-11-26 21:19:43.05022+00', '{"id":"pending","seq":6,"command":"true","created_at":"2026-11-26T21:19:43.050220Z","timeout":60.0,"backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/srv","env":{"COLOR":"blue"}}', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_active VALUES (7, false, 'j0007', 'pending', 'mails', 2, '2026-11-26 21:19:43.327336+00', true, '{}', '2026-11-26 21:19:43.327336+00', '{"id":"j0007","seq":7,"command":"true","created_at":"2026-11-26T21:19:43.327336Z","queue":"mails","priority":-2,"backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/srv"}', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_active VALUES (8, false, 'delayed', 'pending', 'default', 0, '2026-11-27 21:19:43.544652+00', false, '{}', '2026-11-26 21:19:43.544652+00', '{"id":"delayed","seq":8,"command":"true","created_at":"2026-11-26T21:19:43.544652Z","run_at":"2026-11-27T21:19:43.544652Z","delay":86400.0,"backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/srv"}', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, false, false);

--
-- Data for Name: job_ended; Type: TABLE DATA; Schema: aqueue; Owner: -
--

INSERT INTO aqueue.job_ended VALUES (1, true, 'completed', 'completed', 'default', -5, '2026-11-26 21:19:40.946712+00', false, '{nightly,mail}', '2026-11-26 21:19:40.966115+00', '{"id":"completed","seq":1,"command":"echo out; echo ''résumé'' >&2","created_at":"2026-11-26T21:19:40.946712Z","state":"completed","attempts":1,"updated_at":"2026-11-26T21:19:40.966115Z","queue":"default","priority":5,"backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/srv","tags":["nightly","mail"],"history":[{"started_at":"2026-11-26T21:19:40.954056Z","worker":1,"token":"a4e9cc2190.1.1-1","pid":20607,"finished_at":"2026-11-26T21:19:40.963609Z","exit_code":0,"host":"alpha"}]}', '\x6f75740a', '\x72c3a973756dc3a90a', 1, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_ended VALUES (2, true, 'dead', 'dead', 'default', 0, '2026-11-26 21:19:41.154991+00', false, '{}', '2026-11-26 21:19:41.173475+00', '{"id":"dead","seq":2,"command":"echo broken >&2; exit 3","created_at":"2026-11-26T21:19:41.133679Z","state":"dead","attempts":2,"max_retries":1,"updated_at":"2026-11-26T21:19:41.173475Z","queue":"default","run_at":"2026-11-26T21:19:41.154991Z","backoff_base":0.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/srv","history":[{"started_at":"2026-11-26T21:19:41.139660Z","worker":2,"token":"a4e9cc2190.2.2-1","pid":20619,"finished_at":"2026-11-26T21:19:41.153861Z","exit_code":3,"host":"alpha"},{"started_at":"2026-11-26T21:19:41.163512Z","worker":1,"token":"a4e9cc2190.1.2-2","pid":20622,"finished_at":"2026-11-26T21:19:41.167950Z","exit_code":3,"host":"alpha"}]}', NULL, '\x62726f6b656e0a', 2, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_ended VALUES (5, true, 'killed', 'dead', 'mails', 0, '2026-11-26 21:19:41.557393+00', false, '{}', '2026-11-26 21:19:41.577271+00', '{"id":"killed","seq":5,"command":"kill -9 $$","created_at":"2026-11-26T21:19:41.557393Z","state":"dead","attempts":1,"max_retries":0,"updated_at":"2026-11-26T21:19:41.577271Z","queue":"mails","backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/srv","history":[{"started_at":"2026-11-26T21:19:41.567602Z","worker":2,"token":"a4e9cc2190.2.5-1","pid":20664,"finished_at":"2026-11-26T21:19:41.576771Z","signal":9,"host":"alpha"}]}', NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, false, false);
INSERT INTO aqueue.job_ended VALUES (9, true, 'cancelled', 'cancelled', 'default', 0, '2026-11-26 21:19:43.846867+00', false, '{}', '2026-11-26 21:19:44.372327+00', '{"id":"cancelled","seq":9,"command":"true","created_at":"2026-11-26T21:19:43.846867Z","state":"cancelled","updated_at":"2026-11-26T21:19:44.372327Z","backoff_base":2.0,"backoff_max":3600.0,"backoff_jitter":0.0,"cwd":"/srv"}', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, false, false);

--
-- Data for Name: pool; Type: TABLE DATA; Schema: aqueue; Owner: -
--

--
-- Data for Name: queue; Type: TABLE DATA; Schema: aqueue; Owner: -
--

INSERT INTO aqueue.queue VALUES ('default');
INSERT INTO aqueue.queue VALUES ('mails');

--
-- Data for Name: version; Type: TABLE DATA; Schema: aqueue; Owner: -
--

INSERT INTO aqueue.version VALUES (2);

--
-- Name: job_seq; Type: SEQUENCE SET; Schema: aqueue; Owner: -
--

SELECT pg_catalog.setval('aqueue.job_seq', 9, true);

--
-- Name: chosen_id chosen_id_pkey; Type: CONSTRAINT; Schema: aqueue; Owner: -
--

ALTER TABLE ONLY aqueue.chosen_id
    ADD CONSTRAINT chosen_id_pkey PRIMARY KEY (id);

--
-- Name: job job_pkey; Type: CONSTRAINT; Schema: aqueue; Owner: -
--

ALTER TABLE ONLY aqueue.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (seq, ended);

--
-- Name: job_active job_active_pkey; Type: CONSTRAINT; Schema: aqueue; Owner: -
--

ALTER TABLE ONLY aqueue.job_active
    ADD CONSTRAINT job_active_pkey PRIMARY KEY (seq, ended);

--
-- Name: job_ended job_ended_pkey; Type: CONSTRAINT; Schema: aqueue; Owner: -
--

ALTER TABLE ONLY aqueue.job_ended
    ADD CONSTRAINT job_ended_pkey PRIMARY KEY (seq, ended);

--
-- Name: pool pool_pkey; Type: CONSTRAINT; Schema: aqueue; Owner: -
--

ALTER TABLE ONLY aqueue.pool
    ADD CONSTRAINT pool_pkey PRIMARY KEY (run);

--
-- Name: job_active_failed; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE INDEX job_active_failed ON aqueue.job_active USING btree (seq) WHERE (state = 'failed'::text);

--
-- Name: job_active_id; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE UNIQUE INDEX job_active_id ON aqueue.job_active USING btree (id);

--
-- Name: job_active_later; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE INDEX job_active_later ON aqueue.job_active USING btree (state, due) WHERE ((NOT ready) AND (state = ANY (ARRAY['pending'::text, 'failed'::text])));

--
-- Name: job_active_ready; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE INDEX job_active_ready ON aqueue.job_active USING btree (queue, rank, due, seq) WHERE ready;

--
-- Name: job_active_running; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE INDEX job_active_running ON aqueue.job_active USING btree (pool) WHERE (state = 'processing'::text);

--
-- Name: job_ended_cancelled; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE INDEX job_ended_cancelled ON aqueue.job_ended USING btree (seq) WHERE (state = 'cancelled'::text);

--
-- Name: job_ended_changed; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE INDEX job_ended_changed ON aqueue.job_ended USING btree (changed) WHERE (state = ANY (ARRAY['completed'::text, 'cancelled'::text]));

--
-- Name: job_ended_dead; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE INDEX job_ended_dead ON aqueue.job_ended USING btree (seq) WHERE (state = 'dead'::text);

--
-- Name: job_ended_id; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE UNIQUE INDEX job_ended_id ON aqueue.job_ended USING btree (id);

--
-- Name: queue_name; Type: INDEX; Schema: aqueue; Owner: -
--

CREATE INDEX queue_name ON aqueue.queue USING btree (name);

--
-- Name: job_active_pkey; Type: INDEX ATTACH; Schema: aqueue; Owner: -
--

ALTER INDEX aqueue.job_pkey ATTACH PARTITION aqueue.job_active_pkey;

--
-- Name: job_ended_pkey; Type: INDEX ATTACH; Schema: aqueue; Owner: -
--

ALTER INDEX aqueue.job_pkey ATTACH PARTITION aqueue.job_ended_pkey;

--
-- PostgreSQL database dump complete
--
