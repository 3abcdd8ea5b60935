-- Tenants: what administrators write about them, and when.

ALTER TABLE domains
  ADD COLUMN description text NOT NULL DEFAULT '',
  ADD COLUMN integration_id text,
  ADD COLUMN modified_at timestamptz NOT NULL DEFAULT now();

ALTER TABLE projects
  ADD COLUMN description text NOT NULL DEFAULT '',
  ADD COLUMN integration_id text,
  ADD COLUMN modified_at timestamptz NOT NULL DEFAULT now();

ALTER TABLE users
  ADD COLUMN description text NOT NULL DEFAULT '',
  ADD COLUMN status_reason text NOT NULL DEFAULT '',
  ADD COLUMN need_password_change boolean NOT NULL DEFAULT false,
  ADD COLUMN password_changed_at timestamptz,
  ADD COLUMN modified_at timestamptz NOT NULL DEFAULT now(),
  DROP CONSTRAINT users_role_check,
  ADD CONSTRAINT users_role_check CHECK (role IN ('user', 'admin', 'superadmin')),
  DROP CONSTRAINT users_status_check,
  ADD CONSTRAINT users_status_check CHECK (status IN ('active', 'inactive', 'deleted'));

ALTER TABLE keypairs
  ADD COLUMN is_main boolean NOT NULL DEFAULT false,
  ADD COLUMN last_used_at timestamptz,
  ADD COLUMN modified_at timestamptz NOT NULL DEFAULT now();

-- Until now the role alone decided; from now on a key pair has its user's rights only if it says so.
UPDATE keypairs SET is_admin = true WHERE user_id IN (SELECT id FROM users WHERE role <> 'user');
UPDATE keypairs SET is_main = true WHERE access_key IN (
  SELECT DISTINCT ON (user_id) access_key FROM keypairs ORDER BY user_id, is_active DESC, created_at, access_key);

CREATE UNIQUE INDEX keypairs_main_key ON keypairs (user_id) WHERE is_main;
CREATE INDEX keypairs_user_id_idx ON keypairs (user_id);
CREATE INDEX users_domain_name_idx ON users (domain_name);
CREATE INDEX project_members_user_id_idx ON project_members (user_id);

-- Who changed what. Rows outlive what they tell of, so they refer to nothing.

CREATE TABLE audit_log (
  id uuid PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now(),
  request_id text NOT NULL,
  user_id uuid NOT NULL,
  access_key text NOT NULL,
  acting_for text,
  action text NOT NULL,
  target_kind text NOT NULL,
  target_id text NOT NULL,
  domain_name text,
  outcome text NOT NULL CONSTRAINT audit_log_outcome_check CHECK (outcome IN ('done', 'failed')),
  error_code text,
  changes jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX audit_log_at_idx ON audit_log (at DESC, id DESC);
CREATE INDEX audit_log_target_idx ON audit_log (target_kind, target_id, at DESC);
CREATE INDEX audit_log_user_id_idx ON audit_log (user_id, at DESC);
CREATE INDEX audit_log_request_id_idx ON audit_log (request_id);
