import { readFileSync } from 'node:fs';
import { type IsolationReport, type KernelSpec, kernelSpecSchema } from '@backend.ai/contract';
import { replaceFileSync } from '../../files/replace-file.ts';
import { type Allocation, allocationSchema } from '../../resources/inventory.ts';
import type { ScratchDraft } from './draft.ts';
import type { ScratchPaths } from './scratch.ts';

/** What must be known of any kernel to adopt or to remove it after a restart of the agent. */
export interface KernelFacts {
  readonly version: 1;
  /** What made it. Absent: processes of the machine. */
  readonly backend?: 'docker' | undefined;
  readonly installationId: string;
  /** Of the machine: after its restart no process is what it was. */
  readonly machineBootId: string;
  readonly spec: KernelSpec;
  readonly requestId: string;
  readonly image: string;
  readonly isolation: IsolationReport;
  readonly state: 'preparing' | 'running';
  readonly uid: number | null;
  /** Absent in facts of earlier versions. */
  readonly allocation?: Allocation | undefined;
}

export function sharedFacts(
  { spec, requestId, isolation, uid, resources }: ScratchDraft,
  installationId: string,
  state: KernelFacts['state'],
): Omit<KernelFacts, 'backend' | 'image'> {
  const facts = {
    version: 1 as const,
    installationId,
    machineBootId: machineBootId(),
    requestId,
    isolation,
    state,
    uid,
    allocation: resources.allocation,
  };
  return { ...facts, spec: withoutCredentials(spec) };
}

/** What was for the start only stays off the disk: an adopted kernel fetches nothing. */
function withoutCredentials({ imageSource, ...spec }: KernelSpec): KernelSpec {
  if (!imageSource) return spec;
  const { credentials: _, ...source } = imageSource;
  return { ...spec, imageSource: source };
}

export function writeFacts(paths: ScratchPaths, facts: KernelFacts): void {
  replaceFileSync(paths.facts, JSON.stringify(facts));
}

/** Null when there are none, or what is there cannot be understood. */
export function readFacts(paths: ScratchPaths): KernelFacts | null {
  try {
    const facts = JSON.parse(readFileSync(paths.facts, 'utf8')) as KernelFacts;
    return facts.version === 1 && kernelSpecSchema.safeParse(facts.spec).success ? facts : null;
  } catch {
    return null;
  }
}

/** Null: it was not written down, or not in a way that can be understood. */
export function allocationOf({ allocation }: KernelFacts): Allocation | null {
  return allocationSchema.safeParse(allocation).data ?? null;
}

/** Changes when the machine restarts: process numbers of before then mean nothing. */
export function machineBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return 'unknown';
  }
}
