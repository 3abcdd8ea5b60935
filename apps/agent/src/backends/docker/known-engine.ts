import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentImagesSchema, type Image, type IsolationReport, isolationReportSchema } from '@backend.ai/contract';
import { z } from 'zod';
import { unlessDiskFull } from '../../files/disk-full.ts';
import { replaceFileSync } from '../../files/replace-file.ts';

/** What an engine offered when it answered last, and where that was. */
export interface KnownEngine {
  readonly socket: string;
  readonly isolation: IsolationReport;
  readonly images: readonly Image[];
}

const knownEngineSchema = z.object({
  socket: z.string().startsWith('/'),
  isolation: isolationReportSchema,
  images: agentImagesSchema,
});

/** Whether an agent with this data folder has had its kernels in an engine. */
export function hasKnownEngine(dataDir: string): boolean {
  return existsSync(fileIn(dataDir));
}

/** Null: there was none, or what is written down cannot be understood. */
export function readKnownEngine(dataDir: string): KnownEngine | null {
  if (!hasKnownEngine(dataDir)) return null;
  try {
    return knownEngineSchema.parse(JSON.parse(readFileSync(fileIn(dataDir), 'utf8')));
  } catch {
    // The engine tells all of it again.
    return null;
  }
}

export function keepKnownEngine(dataDir: string, { socket, isolation, images }: KnownEngine): void {
  // The engine tells all of it again.
  unlessDiskFull(() => replaceFileSync(fileIn(dataDir), JSON.stringify({ socket, isolation, images })));
}

function fileIn(dataDir: string): string {
  return join(dataDir, 'engine.json');
}
