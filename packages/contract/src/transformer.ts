import { isPlainJson } from '@backend.ai/core';
import superjson, { type SuperJSONResult } from 'superjson';

/**
 * How values travel: in the form of superjson, which carries what JSON lacks (dates, maps, undefined). What JSON carries
 * as it is, as nearly everything here, is not copied into that form: that would cost more than the rest of an answer.
 */
export const transformer = {
  serialize: (value: unknown): object => (isPlainJson(value) ? { json: value } : superjson.serialize(value)),
  /** Without what JSON lacks it is what JSON gave: superjson would copy it, and make a prototype of a field `__proto__`. */
  deserialize: (sent: SuperJSONResult): unknown => (sent.meta === undefined ? sent.json : superjson.deserialize(sent)),
};
