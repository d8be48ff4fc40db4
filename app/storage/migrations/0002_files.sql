-- Licensed files, the journal's bound for what functions refuse, and downloads that are pruned from it.
-- A name is one segment of a path and starts with no dot; domain/files.py has the whole rule.

CREATE TABLE file (
    name text PRIMARY KEY CHECK (length(name) <= 100 AND name ~ '^[^./\\[:cntrl:]][^/\\[:cntrl:]]*$'),
    size bigint NOT NULL CHECK (size >= 0),
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    added_at timestamptz NOT NULL
);
CREATE TABLE file_batch (
    file_name text NOT NULL REFERENCES file (name) ON DELETE CASCADE,
    batch text NOT NULL,
    PRIMARY KEY (file_name, batch)
);

DROP INDEX event_refusals;
CREATE INDEX event_refusals ON event (ip_network, at) WHERE code IN (
    'CARD_NOT_FOUND', 'CARD_FROZEN', 'CARD_EXPIRED', 'FUNCTION_NOT_FOUND', 'FUNCTION_FAILED', 'FUNCTION_TIMEOUT'
);
CREATE INDEX event_downloads ON event (card_id, (details ->> 'sha256'), at) WHERE kind = 'file_downloaded';

CREATE OR REPLACE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only: only old rejections and downloads are ever pruned';
END $$;
DROP TRIGGER event_no_delete ON event;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event
    FOR EACH ROW WHEN (OLD.kind NOT IN ('rejected', 'file_downloaded')) EXECUTE FUNCTION event_is_append_only();
