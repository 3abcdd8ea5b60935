import type { IsolationReport } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { CgroupHost } from '../../resources/cgroups.ts';
import type { SandboxTools } from './sandbox-command.ts';

export type SandboxKind = 'bubblewrap' | 'unshare' | 'none';

/** One way of keeping kernels apart that might work here. */
export interface SandboxCandidate {
  readonly sandbox: SandboxKind;
  readonly ownUid: boolean;
}

export interface MachineOffers {
  readonly asRoot: boolean;
  readonly tools: Pick<SandboxTools, 'bwrap' | 'unshare' | 'setpriv'>;
}

/**
 * What to try, strongest first. As root all of them need `setpriv`: programs never stay root.
 * @param wanted Only this one; undefined: whatever works.
 */
export function sandboxCandidates({ asRoot, tools }: MachineOffers, wanted?: SandboxKind): SandboxCandidate[] {
  const ownUid = asRoot && tools.setpriv !== null;
  const candidates: SandboxCandidate[] = [];
  if (tools.bwrap && (!asRoot || ownUid)) candidates.push({ sandbox: 'bubblewrap', ownUid });
  if (tools.unshare && tools.setpriv) candidates.push({ sandbox: 'unshare', ownUid });
  if (!asRoot || ownUid) candidates.push({ sandbox: 'none', ownUid });
  return candidates.filter(({ sandbox }) => wanted === undefined || sandbox === wanted);
}

const rootHint =
  'Programs are never run as root. Without a sandbox they need setpriv (util-linux) and a data directory whose folders ' +
  'above everybody may pass, for example --data-dir /var/lib/backend.ai; or start the cluster as an ordinary user.';

/**
 * The first candidate whose real self-test passes.
 * @throws AppError `isolation-unavailable` when only programs without a sandbox would be left and nobody allowed that, or
 * they would be root
 */
export async function chooseSandbox(
  candidates: readonly SandboxCandidate[],
  { asRoot, allowUnisolated }: { readonly asRoot: boolean; readonly allowUnisolated: boolean },
  works: (candidate: SandboxCandidate) => Promise<boolean>,
): Promise<SandboxCandidate> {
  for (const candidate of candidates) {
    if (candidate.sandbox === 'none' && !allowUnisolated) continue;
    if (await works(candidate)) return candidate;
  }
  throw new AppError('isolation-unavailable', 'This machine offers no way to keep the programs of sessions apart.', {
    data: { tried: candidates.map(({ sandbox }) => sandbox) },
    hint: asRoot && allowUnisolated ? rootHint : undefined,
  });
}

/** What is reached in all; never more than what was tested. */
export function isolationReport({ sandbox, ownUid }: SandboxCandidate, cgroups: CgroupHost | null): IsolationReport {
  const parents = cgroups?.parents ?? {};
  // Without a user or a user namespace of its own, a limit would count the other programs of the same user.
  const rlimit = ownUid || sandbox !== 'none';
  return {
    sandbox,
    ownUid,
    memory: parents.memory ? 'cgroup' : 'watched',
    processes: parents.pids ? 'cgroup' : rlimit ? 'rlimit' : 'none',
    cpu: parents.cpu ? 'cgroup' : 'none',
    network: 'host',
    egress: 'open',
  };
}
