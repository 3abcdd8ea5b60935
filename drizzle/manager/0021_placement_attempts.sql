-- How often a session that waits could not be placed: what counts towards a lower priority outlives a leader.
ALTER TABLE sessions ADD COLUMN placement_attempts integer NOT NULL DEFAULT 0;
