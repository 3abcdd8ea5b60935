/** What a registry wants for an answer. */
export type Challenge =
  | { readonly scheme: 'basic' }
  | {
      readonly scheme: 'bearer';
      /** Where tokens are given out. */
      readonly realm: string;
      readonly service: string | undefined;
      readonly scope: string | undefined;
    };

/** The header `WWW-Authenticate`; undefined when there is none that is known. A token is preferred to a password. */
export function parseChallenge(header: string | undefined): Challenge | undefined {
  if (header === undefined) return undefined;
  const [, parameters] = /\bbearer\s+(.*)/i.exec(header) ?? [];
  if (parameters !== undefined) {
    const values = new Map<string, string>();
    for (const [, name = '', quoted, plain] of parameters.matchAll(/([a-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))/gi)) {
      const lower = name.toLowerCase();
      if (!values.has(lower)) values.set(lower, quoted ?? plain ?? '');
    }
    const realm = values.get('realm');
    if (realm) return { scheme: 'bearer', realm, service: values.get('service'), scope: values.get('scope') };
  }
  return /\bbasic\b/i.test(header) ? { scheme: 'basic' } : undefined;
}
