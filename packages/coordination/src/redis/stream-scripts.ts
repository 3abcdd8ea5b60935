/** KEYS: a stream for each event. ARGV: length of streams, field, then the events. */
export const publishScript = `
for index, stream in ipairs(KEYS) do
  redis.call('XADD', stream, 'MAXLEN', '~', ARGV[1], '*', ARGV[2], ARGV[index + 2])
end`;

/**
 * Takes over what was unacknowledged for too long, without counting it as a delivery: that is counted when a handler
 * begins. KEYS: stream. ARGV: group, consumer, milliseconds, where to go on, how many.
 * Gives where to go on, and for each entry its id, its deliveries so far and its field.
 */
export const reclaimScript = `
local claimed = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'JUSTID')
local found = {}
for _, id in ipairs(claimed[2]) do
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if entry and pending then
    found[#found + 1] = { id, pending[4], entry[2][1], entry[2][2] }
  else
    redis.call('XACK', KEYS[1], ARGV[1], id)
  end
end
return { claimed[1], found }`;

/**
 * Removes consumers that are gone and have nothing left. KEYS: streams. ARGV: group, own consumer, milliseconds after which
 * another one counts as gone; a negative number removes only the own one.
 */
export const sweepScript = `
for _, stream in ipairs(KEYS) do
  for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', stream, ARGV[1])) do
    local fields = {}
    for index = 1, #info, 2 do fields[info[index]] = info[index + 1] end
    local idle = tonumber(ARGV[3])
    local gone = fields.name == ARGV[2]
    if idle >= 0 then gone = not gone and fields.idle > idle end
    if gone and fields.pending == 0 then redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], fields.name) end
  end
end`;
