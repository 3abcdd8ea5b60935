/** NUL, and halves of surrogate pairs: neither texts nor JSON of PostgreSQL can hold them. */
const unstorable = /[\0\p{Cs}]/gu;

/** For what does not come from checked input: what agents, runners and programs say. */
export function storableText(text: string): string {
  return text.replace(unstorable, '\ufffd');
}

/** How JSON writes them. The words of somebody who writes about it look the same, and are looked at more closely. */
const escaped = /\\u(?:0000|d[89a-f])/;

export function storableJson(value: unknown): string {
  const json = JSON.stringify(value);
  if (!escaped.test(json)) return json;
  return JSON.stringify(value, (_key, item: unknown) => (typeof item === 'string' ? storableText(item) : item));
}
