import { join } from 'node:path';
import { hasKnownEngine, readKnownEngine } from './docker/known-engine.ts';
import { type EngineReport, isSupported, usualEngineSocket } from './engine-report.ts';
import { readFacts } from './scratch/facts.ts';
import { listScratch, scratchPaths } from './scratch/scratch.ts';

export type BackendKind = 'process' | 'docker' | 'fake';

/** What a data folder tells of the agents that had it before. */
export interface BackendsBefore {
  /** What made the kernels that are in it. */
  readonly present: ReadonlySet<BackendKind>;
  /** Whether there has been an engine. */
  readonly hadEngine: boolean;
}

/**
 * What makes kernels when nobody has said so: whatever made those that are still here; otherwise the engine, if it is
 * new enough and has an image for them, and processes otherwise, so that a fresh machine can run something. An engine that
 * was used before and is still installed is waited for: it may only come up later.
 */
export function backendByItself({ present, hadEngine }: BackendsBefore, engine: EngineReport): BackendKind {
  if (present.has('process')) return 'process';
  if (present.has('docker')) return 'docker';
  if (engine.state === 'ready') return isSupported(engine) && engine.images.length > 0 ? 'docker' : 'process';
  return hadEngine && engine.state !== 'absent' ? 'docker' : 'process';
}

/** Why an engine that answers is not taken, and what to do for containers; null: it is, or there is none that answers. */
export function whyEngineIsUnused(before: BackendsBefore, engine: EngineReport): string | null {
  if (engine.state !== 'ready' || backendByItself(before, engine) === 'docker') return null;
  const { product, version } = engine;
  if (before.present.has('process')) {
    return `${product} ${version} is not used while sessions of processes are here. For containers: end them, then start again.`;
  }
  if (!isSupported(engine))
    return `${product} ${version} is too old for sessions. For containers: install Docker 20.10 or newer.`;
  return (
    `${product} ${version} has no image for sessions. ` +
    'For containers: make one (./scripts/build-images.sh python shell), then start again.'
  );
}

export function backendsBefore(dataDir: string): BackendsBefore {
  return { present: backendsPresent(dataDir), hadEngine: hasKnownEngine(dataDir) };
}

/**
 * The engine of an agent with this data folder when nobody has said which: that of the containers that it has, whether it
 * is there or not, as any other one would tell that they are gone; otherwise the usual one.
 */
export function engineSocketFor(dataDir: string, environment: NodeJS.ProcessEnv): string {
  const known = backendsPresent(dataDir).has('docker') ? readKnownEngine(dataDir) : null;
  return known?.socket ?? usualEngineSocket(environment);
}

function backendsPresent(dataDir: string): ReadonlySet<BackendKind> {
  const scratchDir = join(dataDir, 'scratch');
  const facts = listScratch(scratchDir).flatMap((kernelId) => readFacts(scratchPaths(scratchDir, kernelId)) ?? []);
  return new Set(facts.map(({ backend }): BackendKind => backend ?? 'process'));
}
