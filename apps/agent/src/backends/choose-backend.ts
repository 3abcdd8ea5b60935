import { join } from 'node:path';
import { type EngineReport, isSupported } from './engine-report.ts';
import { readFacts } from './scratch/facts.ts';
import { listScratch, scratchPaths } from './scratch/scratch.ts';

export type BackendKind = 'process' | 'docker' | 'fake';

/**
 * What makes kernels when nobody has said so: whatever made those that are still here; otherwise the engine, if it is
 * new enough and has an image for them, and processes otherwise, so that a fresh machine can run something.
 */
export function backendByItself(present: ReadonlySet<BackendKind>, engine: EngineReport): BackendKind {
  if (present.has('process')) return 'process';
  if (present.has('docker')) return 'docker';
  return engine.state === 'ready' && isSupported(engine) && engine.images.length > 0 ? 'docker' : 'process';
}

/** What made the kernels in a data folder. */
export function backendsPresent(dataDir: string): ReadonlySet<BackendKind> {
  const scratchDir = join(dataDir, 'scratch');
  const facts = listScratch(scratchDir).flatMap((kernelId) => readFacts(scratchPaths(scratchDir, kernelId)) ?? []);
  return new Set(facts.map(({ backend }): BackendKind => backend ?? 'process'));
}
