import { AppError, amountFromText, amountToText, parseBinarySize } from '@backend.ai/core';
import { z } from 'zod';
import type { PluginSettings } from './accelerator-plugin.ts';

/** Bytes, written as a number or as `2g`. */
export const sizeSetting = z.union([z.number(), z.string()]).transform((size, context) => {
  try {
    return Number(parseBinarySize(size));
  } catch {
    context.addIssue({ code: 'custom', message: 'is not a size such as 2g' });
    return z.NEVER;
  }
});

/** `0.1`, as decimal text; at least a thousandth. */
export const quantumSetting = z.union([z.number(), z.string()]).transform((amount, context) => {
  try {
    const quantum = amountFromText(String(amount));
    if (quantum > 0n) return amountToText(quantum);
  } catch {
    // It is no amount: said below.
  }
  context.addIssue({ code: 'custom', message: 'is not an amount above 0 with at most three decimals' });
  return z.NEVER;
});

export const allocationModeSetting = z.enum(['discrete', 'fractional']);

/** Ids of devices that are kept back: a list, or one text with commas. */
export const deviceMaskSetting = z
  .union([z.array(z.string()), z.string().transform((text) => text.split(',').map((id) => id.trim()))])
  .transform((ids) => new Set(ids.filter((id) => id !== '')));

/** @throws AppError `config-invalid` */
export function readSettings<Schema extends z.ZodType>(
  plugin: string,
  schema: Schema,
  settings: PluginSettings,
): z.output<Schema> {
  const { success, data, error } = schema.safeParse(settings);
  if (success) return data;
  const problems = error.issues.map(({ path, message }) => `${path.join('.') || 'they'}: ${message}`);
  throw new AppError('config-invalid', `The settings of the accelerator plugin ${plugin}: ${problems.join('; ')}.`);
}
