-- What may be asked for when a session is created.
ALTER TABLE sessions
  DROP CONSTRAINT sessions_type_check,
  ADD CONSTRAINT sessions_type_check CHECK (type IN ('interactive', 'batch', 'inference', 'system')),
  ADD COLUMN starts_not_before timestamptz,
  ADD COLUMN job_priority integer NOT NULL DEFAULT 0,
  ADD COLUMN is_preemptible boolean NOT NULL DEFAULT true,
  ADD COLUMN designated_agents jsonb NOT NULL DEFAULT '[]',
  ADD COLUMN callback_url text;

CREATE TABLE session_dependencies (
  session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  depends_on uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  CONSTRAINT session_dependencies_pkey PRIMARY KEY (session_id, depends_on)
);
CREATE INDEX session_dependencies_depends_on_idx ON session_dependencies (depends_on);
