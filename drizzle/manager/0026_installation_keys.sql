-- Which installation keys have encrypted secrets, one after the other: the last one does now. The first one stands here from the
-- first rotation on, and since when it did is not known.
CREATE TABLE installation_keys (
  generation integer PRIMARY KEY,
  key_id text NOT NULL CONSTRAINT installation_keys_key_id_key UNIQUE,
  encrypts_since timestamptz
);
-- Of managers: which of these keys they have, and which one they encrypt with. Null: it has told nothing yet.
ALTER TABLE peers ADD COLUMN installation_keys jsonb;
