-- What kernels held and for how long: a row for each time that one gives back what it held. Rows outlive the sessions,
-- people and agents that they are about.
CREATE TABLE usage_records (
  id uuid PRIMARY KEY,
  session_id uuid NOT NULL,
  session_name text NOT NULL,
  kernel_id uuid NOT NULL,
  domain_name text NOT NULL,
  project_id uuid NOT NULL,
  user_id uuid NOT NULL,
  access_key text NOT NULL,
  resource_group text NOT NULL,
  agent_id text NOT NULL,
  slots jsonb NOT NULL,
  began_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL,
  CONSTRAINT usage_records_span_check CHECK (ended_at >= began_at)
);

CREATE INDEX usage_records_ended_at_idx ON usage_records (ended_at);
CREATE INDEX usage_records_user_id_ended_at_idx ON usage_records (user_id, ended_at);
