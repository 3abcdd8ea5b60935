import { z } from 'zod';

/** A terminal is a shell on a pty in a kernel. It belongs to the kernel: who looks at it may come and go. */
export const terminalSchema = z.strictObject({
  /** A kernel may have several; one that is not there yet is made. */
  name: z
    .string()
    .regex(/^[a-z0-9-]{1,32}$/, 'must be 1 to 32 lowercase letters, digits or "-"')
    .default('main'),
  rows: z.number().int().min(1).max(9999).default(24),
  cols: z.number().int().min(1).max(9999).default(80),
  /** What programs find in TERM. */
  term: z
    .string()
    .regex(/^[A-Za-z0-9+._-]{1,64}$/, 'must be the name of a type of terminal')
    .default('xterm-256color'),
});
export type TerminalInput = z.input<typeof terminalSchema>;
export type TerminalOptions = z.infer<typeof terminalSchema>;
