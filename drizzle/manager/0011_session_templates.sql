-- Descriptions that sessions are made of again and again.
CREATE TABLE session_templates (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  domain_name text NOT NULL,
  project_name text NOT NULL,
  name text NOT NULL,
  template jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  modified_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX session_templates_user_id_idx ON session_templates (user_id);
