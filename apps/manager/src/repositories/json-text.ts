/** NUL, and halves of surrogate pairs: neither texts nor JSON of PostgreSQL can hold them. */
const unstorable = /[\0\p{Cs}]/gu;

/** For what does not come from checked input: what agents, runners and programs say. */
export function storableText(text: string): string {
  return text.replace(unstorable, '\ufffd');
}

export function storableJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => (typeof item === 'string' ? storableText(item) : item));
}
