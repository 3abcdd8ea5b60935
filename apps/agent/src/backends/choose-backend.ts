import { request } from 'node:http';
import { join } from 'node:path';
import { readFacts } from './scratch/facts.ts';
import { listScratch, scratchPaths } from './scratch/scratch.ts';

export type BackendKind = 'process' | 'docker' | 'fake';

/** What is known of the container engine of this machine; null: none answers, or we may not use it. */
export type FoundEngine = {
  /** Images in it that kernels can be made of. */
  readonly images: number;
} | null;

/**
 * What makes kernels when nobody has said so: whatever made those that are still here; otherwise the engine, if it has
 * an image for them, and processes where it does not, so that a fresh machine can run something.
 */
export function backendByItself(present: ReadonlySet<BackendKind>, engine: FoundEngine): BackendKind {
  if (present.has('process')) return 'process';
  if (present.has('docker')) return 'docker';
  return engine !== null && engine.images > 0 ? 'docker' : 'process';
}

/** What made the kernels in a data folder. */
export function backendsPresent(dataDir: string): ReadonlySet<BackendKind> {
  const scratchDir = join(dataDir, 'scratch');
  const facts = listScratch(scratchDir).flatMap((kernelId) => readFacts(scratchPaths(scratchDir, kernelId)) ?? []);
  return new Set(facts.map(({ backend }): BackendKind => backend ?? 'process'));
}

const patienceMs = 3_000;
const imagesOfKernels = `/images/json?filters=${encodeURIComponent('{"label":["ai.backend.kernelspec"]}')}`;

/** Asks by hand: what drives an engine takes long to load, and most machines have none. */
export function findEngine(socketPath: string): Promise<FoundEngine> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: imagesOfKernels, timeout: patienceMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', () => resolve(null));
      response.on('end', () => resolve(response.statusCode === 200 ? countImages(Buffer.concat(chunks)) : null));
    });
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => resolve(null));
    asked.on('close', () => resolve(null));
    asked.end();
  });
}

function countImages(body: Buffer): FoundEngine {
  try {
    const images = JSON.parse(body.toString('utf8')) as unknown;
    return Array.isArray(images) ? { images: images.length } : null;
  } catch {
    return null;
  }
}
