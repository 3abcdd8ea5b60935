import { z } from 'zod';
import { inputLimits } from './text.ts';

/** Amounts by slot as decimal texts. */
export const slotTextsSchema = z.record(
  z.string().max(inputLimits.slot),
  z
    .string()
    .max(inputLimits.slot)
    .regex(/^\d+(\.\d{1,6})?$/),
);
