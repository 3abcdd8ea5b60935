-- Resource policies. A limit of 0 is none; an amount that is not named is unlimited, or 0 where the policy says LIMITED.

CREATE TABLE keypair_resource_policies (
  name text PRIMARY KEY,
  default_for_unspecified text NOT NULL DEFAULT 'UNLIMITED'
    CONSTRAINT keypair_resource_policies_unspecified_check CHECK (default_for_unspecified IN ('LIMITED', 'UNLIMITED')),
  total_resource_slots jsonb NOT NULL DEFAULT '{}',
  max_session_lifetime integer NOT NULL DEFAULT 0,
  max_concurrent_sessions integer NOT NULL DEFAULT 0,
  max_concurrent_sftp_sessions integer NOT NULL DEFAULT 0,
  max_pending_session_count integer NOT NULL DEFAULT 0,
  max_pending_session_resource_slots jsonb NOT NULL DEFAULT '{}',
  max_containers_per_session integer NOT NULL DEFAULT 0,
  max_priority integer,
  idle_timeout integer,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE user_resource_policies (
  name text PRIMARY KEY,
  total_resource_slots jsonb NOT NULL DEFAULT '{}',
  max_session_count_per_model_session integer NOT NULL DEFAULT 0,
  max_customized_image_count integer NOT NULL DEFAULT 3,
  max_concurrent_logins integer NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE project_resource_policies (
  name text PRIMARY KEY,
  max_network_count integer NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Of everything that is there already, and of what names no other: it limits nothing.
INSERT INTO keypair_resource_policies (name) VALUES ('default');
INSERT INTO user_resource_policies (name) VALUES ('default');
INSERT INTO project_resource_policies (name) VALUES ('default');

ALTER TABLE keypairs ADD COLUMN resource_policy text NOT NULL DEFAULT 'default'
  REFERENCES keypair_resource_policies (name);
ALTER TABLE users ADD COLUMN resource_policy text NOT NULL DEFAULT 'default'
  REFERENCES user_resource_policies (name);
ALTER TABLE projects
  ADD COLUMN total_resource_slots jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN resource_policy text NOT NULL DEFAULT 'default' REFERENCES project_resource_policies (name);
ALTER TABLE domains ADD COLUMN total_resource_slots jsonb NOT NULL DEFAULT '{}';

-- Whoever may exceed a limit counts up a row here in the statement that decides, so that of two that decide at once the
-- later one sees what the earlier one took.
CREATE TABLE quota_turns (
  scope text PRIMARY KEY,
  turn bigint NOT NULL DEFAULT 1
);

CREATE INDEX sessions_live_scope_idx ON sessions (domain_name, project_id, user_id)
  WHERE status NOT IN ('TERMINATED', 'ERROR', 'CANCELLED');

-- Resource groups

ALTER TABLE resource_groups
  ADD COLUMN description text NOT NULL DEFAULT '',
  ADD COLUMN is_public boolean NOT NULL DEFAULT true,
  ADD COLUMN is_default boolean NOT NULL DEFAULT false,
  ADD COLUMN scheduler text NOT NULL DEFAULT 'fifo'
    CONSTRAINT resource_groups_scheduler_check CHECK (scheduler IN ('fifo', 'lifo', 'drf', 'fair-share')),
  ADD COLUMN options jsonb NOT NULL DEFAULT '{}';

CREATE UNIQUE INDEX resource_groups_default_key ON resource_groups (is_default) WHERE is_default;

CREATE TABLE resource_group_domains (
  resource_group text NOT NULL REFERENCES resource_groups (name) ON DELETE CASCADE,
  domain_name text NOT NULL REFERENCES domains (name) ON DELETE CASCADE,
  CONSTRAINT resource_group_domains_pkey PRIMARY KEY (resource_group, domain_name)
);

CREATE TABLE resource_group_projects (
  resource_group text NOT NULL REFERENCES resource_groups (name) ON DELETE CASCADE,
  project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  CONSTRAINT resource_group_projects_pkey PRIMARY KEY (resource_group, project_id)
);

CREATE TABLE resource_group_keypairs (
  resource_group text NOT NULL REFERENCES resource_groups (name) ON DELETE CASCADE,
  access_key text NOT NULL REFERENCES keypairs (access_key) ON DELETE CASCADE,
  CONSTRAINT resource_group_keypairs_pkey PRIMARY KEY (resource_group, access_key)
);

-- Presets: amounts to choose from.

CREATE TABLE resource_presets (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  resource_group text REFERENCES resource_groups (name) ON DELETE CASCADE,
  resource_slots jsonb NOT NULL,
  shared_memory bigint,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX resource_presets_name_key ON resource_presets (name) WHERE resource_group IS NULL;
CREATE UNIQUE INDEX resource_presets_group_name_key ON resource_presets (resource_group, name)
  WHERE resource_group IS NOT NULL;
