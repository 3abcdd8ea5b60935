-- How long devices were busy is kept as an amount like all else that was counted; before, it was an average over the whole time.
UPDATE usage_records
SET measured = (measured - 'busyDevices') || jsonb_build_object('counted', (measured->'counted') || coalesce((
  SELECT jsonb_object_agg(device.key || 'Seconds', device.value::float8 * extract(epoch FROM ended_at - began_at))
  FROM jsonb_each_text(measured->'busyDevices') device), '{}'))
WHERE measured ? 'busyDevices';
