-- What was measured of a kernel while it held what the row is about; absent where nothing was.
ALTER TABLE usage_records ADD COLUMN measured jsonb;
