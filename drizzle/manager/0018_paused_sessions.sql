-- Since when the programs of a session are to stand still, and when they were let go on last.
ALTER TABLE sessions ADD COLUMN paused_at timestamp with time zone;
ALTER TABLE sessions ADD COLUMN resumed_at timestamp with time zone;
