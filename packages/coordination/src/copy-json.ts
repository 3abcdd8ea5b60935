/**
 * What `JSON.parse(JSON.stringify(value))` gives, without the text where a value has none but plain parts. Null for what
 * cannot be written.
 * @throws TypeError for cycles and big integers
 */
export function copyJson(value: unknown): unknown {
  const copy = copyOf(value, 0);
  return copy === undefined ? null : copy;
}

/** Deeper values are left to `JSON`, which finds cycles. */
const maxDepth = 32;

function copyOf(value: unknown, depth: number): unknown {
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value;
  // Zero has no sign in JSON.
  if (typeof value === 'number') return Number.isFinite(value) ? value + 0 : null;
  if (typeof value !== 'object') return throughText(value);
  if (depth >= maxDepth || 'toJSON' in value) return throughText(value);
  if (Array.isArray(value)) return Array.from(value, (item) => copyOf(item, depth + 1) ?? null);
  if (Object.getPrototypeOf(value) !== Object.prototype) return throughText(value);
  const copy: Record<string, unknown> = {};
  for (const key in value) {
    if (key === '__proto__') return throughText(value);
    const part = copyOf((value as Record<string, unknown>)[key], depth + 1);
    if (part !== undefined) copy[key] = part;
  }
  return copy;
}

function throughText(value: unknown): unknown {
  const text = JSON.stringify(value);
  return text === undefined ? undefined : JSON.parse(text);
}
