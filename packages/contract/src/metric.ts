import { z } from 'zod';

/**
 * One number that is measured again and again. `diff` and `rate` (per second) compare the last two measurements; the rest
 * is about all of them. Rounded to three places.
 */
export const metricSchema = z.object({
  /** `bytes`, `msec`, `percent`, `bps` (bytes per second), `Celsius`, `Watts`. */
  unit: z.string().max(32),
  current: z.number(),
  /** The most that `current` can be. Null: there is no such thing. */
  capacity: z.number().nullable(),
  min: z.number(),
  max: z.number(),
  sum: z.number(),
  avg: z.number(),
  diff: z.number(),
  rate: z.number(),
});
export type Metric = z.infer<typeof metricSchema>;

/**
 * By name, as the official API calls them. Of kernels: `cpu_util` (milliseconds per second: 1000 is one core), `cpu_used`,
 * `mem`, `io_read`, `io_write`, `net_rx`, `net_tx`, `io_scratch_size`; of machines `cpu_util` (milliseconds since the
 * measurement before, of that time), `mem`, `disk`, `net_rx`, `net_tx`; of both those of accelerators (`cuda_util`,
 * `cuda_mem` …). What cannot be measured is absent.
 */
export const metricsSchema = z.record(z.string().regex(/^[a-z][a-z0-9_.-]{0,63}$/), metricSchema);
export type Metrics = z.infer<typeof metricsSchema>;
