import { amountToText, parseResourceSlots } from '@backend.ai/core';

const infinite = /^(inf|infinite|infinity|unlimited)$/i;

/**
 * Limits as a policy stores them: sizes in bytes, `Infinity` for without limit. Unlike requests they keep zeros, which
 * forbid a slot, and may name slots that no agent offers yet.
 * @throws AppError `invalid-input`
 */
export function limitTexts(input: Readonly<Record<string, string | number>>): Record<string, string> {
  const limits: Record<string, string> = {};
  for (const [name, value] of Object.entries(input)) {
    const amounts = parseResourceSlots({ [name]: infinite.test(String(value).trim()) ? 0 : value });
    limits[name] = infinite.test(String(value).trim()) ? 'Infinity' : amountToText(amounts[name] ?? 0n);
  }
  return limits;
}
