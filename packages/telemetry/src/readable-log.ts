/** A record as people read it while they develop; what comes after the message is what varies. */

const colours: Readonly<Record<string, string>> = { debug: '\u001b[2m', warn: '\u001b[33m', error: '\u001b[31m' };
const reset = '\u001b[0m';

/** What stands at its own place or is of no use on a terminal. */
const standing = new Set(['level', 'time', 'component', 'module', 'msg', 'request_id', 'error', 'actor']);

/** @param line One JSON record. */
export function readableRecord(line: string, options: { readonly colour: boolean }): string {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { level, time, component, module, msg, request_id, error } = record;
  const fields = Object.entries(record)
    .filter(([name]) => !standing.has(name))
    .map(([name, value]) => ` ${name}=${fieldText(value)}`);
  const colour = options.colour ? (colours[String(level)] ?? '') : '';
  const head = [
    String(time ?? '').slice(11, 23),
    String(level).toUpperCase().padEnd(5),
    [component, module].filter((name) => name !== undefined).join('/'),
    String(msg),
  ].join(' ');
  const request = request_id ? ` request_id=${String(request_id)}` : '';
  return `${colour}${head}${colour ? reset : ''}${fields.join('')}${request}\n${errorText(error, 'error')}`;
}

function fieldText(value: unknown): string {
  if (typeof value === 'string' && /^[^\s"=]+$/.test(value)) return value;
  return JSON.stringify(value) ?? String(value);
}

/** The chain of causes, each with its stack. */
function errorText(error: unknown, name: string): string {
  if (error === undefined) return '';
  if (typeof error !== 'object' || error === null) return `  ${name}: ${String(error)}\n`;
  const { stack, message, code, detail, data, cause } = error as Record<string, unknown>;
  const lines = String(stack ?? message ?? JSON.stringify(error)).split('\n');
  const facts = Object.entries({ code, detail, data }).filter(([, value]) => value !== undefined);
  const text = facts.map(([key, value]) => ` ${key}=${fieldText(value)}`).join('');
  return `  ${name}: ${lines[0]}${text}\n${lines
    .slice(1)
    .map((line) => `  ${line}\n`)
    .join('')}${errorText(cause, 'cause')}`;
}
