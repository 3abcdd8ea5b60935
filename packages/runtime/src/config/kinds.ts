import { Secret } from '@backend.ai/core';
import { z } from 'zod';

/** The kinds of values that settings of all components are made of. Texts and defaults are added where they are used. */

/** A `Secret`. Its setting has a sister `<key>-file` that names a file to read it from. */
export function secret(): z.ZodType<Secret, string> {
  return z
    .string()
    .min(1)
    .transform((text) => new Secret(text))
    .meta({ secret: true });
}

/** A URL that may carry a password. Shown with its credentials masked. */
export function secretUrl(...protocols: string[]): z.ZodType<Secret, string> {
  return z
    .string()
    .refine((text) => hasProtocol(text, protocols))
    .transform((text) => Secret.url(text))
    .meta({ secret: true, expected: `a URL such as ${protocols[0]}://host:port` });
}

function hasProtocol(text: string, protocols: readonly string[]): boolean {
  return URL.canParse(text) && protocols.includes(new URL(text).protocol.slice(0, -1));
}

/** A URL without credentials in it. */
export function url(...protocols: string[]): z.ZodType<string, string> {
  return z
    .string()
    .refine((text) => hasProtocol(text, protocols) && new URL(text).username === '' && new URL(text).password === '')
    .meta({ expected: `a URL such as ${protocols[0]}://host:port, without a password in it` });
}

/** A file or folder. A relative one counts from the folder that the program is started in. */
export function path(): z.ZodString {
  return z.string().min(1).meta({ path: true });
}

/** The path of a file that must be there when the component starts. */
export function readableFile(): z.ZodString {
  return path().meta({ readable: true });
}

/** A port to listen on; 0 takes any free one. */
export function port(): z.ZodNumber {
  return z.number().int().min(0).max(65_535);
}

/** A host name or address. */
export function host(): z.ZodString {
  return z
    .string()
    .regex(/^[A-Za-z0-9._:-]{1,253}$/)
    .meta({ expected: 'a host name or an address' });
}

/** The longest time that timers can wait. */
export function milliseconds(): z.ZodNumber {
  return z.number().int().min(0).max(2_147_483_647).meta({ unit: 'milliseconds' });
}
