-- Dotfiles of domains and projects beside those of key pairs: each has one owner.
ALTER TABLE dotfiles DROP CONSTRAINT dotfiles_pkey;
ALTER TABLE dotfiles ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT dotfiles_pkey PRIMARY KEY;
ALTER TABLE dotfiles ALTER COLUMN access_key DROP NOT NULL;
ALTER TABLE dotfiles ADD COLUMN domain_name text REFERENCES domains (name) ON DELETE CASCADE;
ALTER TABLE dotfiles ADD COLUMN project_id uuid REFERENCES projects (id) ON DELETE CASCADE;
-- Files of others' making are kept from sessions of superadmins, unless a superadmin wrote them.
ALTER TABLE dotfiles ADD COLUMN by_superadmin boolean NOT NULL DEFAULT false;
ALTER TABLE dotfiles ADD CONSTRAINT dotfiles_owner_check CHECK (num_nonnulls(access_key, domain_name, project_id) = 1);
ALTER TABLE dotfiles ADD CONSTRAINT dotfiles_access_key_path_key UNIQUE (access_key, path);
ALTER TABLE dotfiles ADD CONSTRAINT dotfiles_domain_name_path_key UNIQUE (domain_name, path);
ALTER TABLE dotfiles ADD CONSTRAINT dotfiles_project_id_path_key UNIQUE (project_id, path);
