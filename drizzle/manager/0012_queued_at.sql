-- How long a session waits counts from when it was queued, not from when it was made: one that starts anew is queued again.
ALTER TABLE sessions ADD COLUMN queued_at timestamptz NOT NULL DEFAULT now();
UPDATE sessions SET queued_at = created_at;
