/** A benchmark compares us with peers in the same run; what counts are the ratios, as machines are noisy. */
export interface BenchResult {
  readonly title: string;
  readonly columns: string[];
  readonly rows: Array<Array<string | number>>;
  /** What was promised. `ok` says whether `value` keeps it: a ratio or a time within `limit`. */
  readonly targets: Array<{
    readonly name: string;
    readonly value: number;
    readonly limit: number;
    readonly unit: string;
    readonly ok: boolean;
  }>;
}

export interface BenchOptions {
  /** Fewer rounds: for trying whether it works. */
  readonly quick: boolean;
}

export interface Bench {
  readonly name: string;
  run(options: BenchOptions): Promise<BenchResult>;
}

/** The value below which `fraction` of the samples lie (nearest rank). */
export function percentile(samples: readonly number[], fraction: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(fraction * sorted.length) - 1))] ?? Number.NaN;
}
