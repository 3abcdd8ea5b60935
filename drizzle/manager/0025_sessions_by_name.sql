-- A session is looked up by its name with almost every call, among all that its key pair ever had.
CREATE INDEX sessions_access_key_name_idx ON sessions (access_key, name);
