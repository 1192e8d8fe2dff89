-- If a name had to be unique, adding one would wait for every open transaction that adds it too.

ALTER TABLE aqueue.queue DROP CONSTRAINT queue_pkey;
CREATE INDEX queue_name ON aqueue.queue (name);
