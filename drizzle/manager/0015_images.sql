-- Where container images come from, what is there, and names that administrators gave.
CREATE TABLE container_registries (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  url text NOT NULL,
  username text,
  password_encrypted text,
  repositories jsonb DEFAULT '[]' NOT NULL,
  is_active boolean DEFAULT true NOT NULL,
  scanned_at timestamp with time zone,
  last_scan jsonb,
  created_at timestamp with time zone DEFAULT now() NOT NULL,
  CONSTRAINT container_registries_name_key UNIQUE (name),
  CONSTRAINT container_registries_url_key UNIQUE (url)
);

CREATE TABLE images (
  id uuid PRIMARY KEY,
  registry_id uuid NOT NULL REFERENCES container_registries (id) ON DELETE CASCADE,
  name text NOT NULL,
  repository text NOT NULL,
  tag text NOT NULL,
  architecture text NOT NULL,
  digest text NOT NULL,
  manifest_digest text NOT NULL,
  size_bytes bigint NOT NULL,
  labels jsonb DEFAULT '{}' NOT NULL,
  scanned_at timestamp with time zone DEFAULT now() NOT NULL,
  CONSTRAINT images_name_architecture_key UNIQUE (name, architecture)
);
CREATE INDEX images_registry_id_idx ON images (registry_id);

CREATE TABLE image_aliases (
  alias text NOT NULL,
  architecture text NOT NULL,
  image text NOT NULL,
  created_at timestamp with time zone DEFAULT now() NOT NULL,
  CONSTRAINT image_aliases_pkey PRIMARY KEY (alias, architecture)
);

-- Which image it was when the session was made, and who has it. Without a registry any more, agents that have it start it.
ALTER TABLE sessions ADD COLUMN image_registry_id uuid REFERENCES container_registries (id) ON DELETE SET NULL;
ALTER TABLE sessions ADD COLUMN image_digest text;
ALTER TABLE sessions ADD COLUMN image_manifest_digest text;
CREATE INDEX sessions_image_registry_id_idx ON sessions (image_registry_id) WHERE image_registry_id IS NOT NULL;
