import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, delay } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { noContribution } from '../../accelerators/accelerator-plugin.ts';
import { readTail } from '../../files/tail.ts';
import {
  type CgroupHost,
  cgroupPaths,
  entryFiles,
  makeCgroups,
  processesIn,
  removeCgroups,
} from '../../resources/cgroups.ts';
import { identify } from '../../resources/processes.ts';
import type { UidPool } from '../../resources/uid-pool.ts';
import { giveScratch, makeScratch, removeScratch, scratchPaths, writeUserTables } from '../scratch/scratch.ts';
import { endProcesses } from './end-processes.ts';
import { findInit } from './find-init.ts';
import type { SandboxCandidate } from './isolation.ts';
import { labelOf, type SandboxLauncher } from './launcher.ts';

/**
 * $1: sandbox; $2: user id or empty; $3: a folder of the agent that must not be seen. Succeeds only if everything that
 * is promised holds, as a program inside sees it; writes a file as the proof that it ran at all.
 */
const testScript = `set -e
[ -z "$2" ] || [ "$(id -u)" = "$2" ]
if [ "$1" != none ]; then
  [ ! -e "$3" ]
  [ "$$" -lt 64 ]
  [ "$HOME" = /home/work ]
  if (: > /usr/.backend-ai-test) 2>/dev/null; then exit 1; fi
fi
[ -r /dev/null ] && : > /dev/null
: > "$TMPDIR/test"
: > "$HOME/proof"`;

export interface SelfTestOptions {
  readonly launcher: SandboxLauncher;
  readonly scratchDir: string;
  readonly dataDir: string;
  readonly installationId: string;
  readonly uids: UidPool;
  readonly cgroups: CgroupHost | null;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Whether a sandbox of this kind really works here: starts one and lets it look around. */
export async function sandboxWorks(candidate: SandboxCandidate, options: SelfTestOptions): Promise<boolean> {
  const { launcher, installationId, uids, cgroups, clock, logger } = options;
  const kernelId = randomUUID();
  const paths = scratchPaths(options.scratchDir, kernelId);
  const groups = cgroups ? cgroupPaths(cgroups, kernelId) : [];
  const uid = candidate.ownUid ? uids.allocate() : null;
  let child: ChildProcess | undefined;
  try {
    makeScratch(paths, candidate.sandbox === 'none');
    if (uid !== null) giveScratch(paths, uid);
    writeUserTables(paths, uid ?? 0, uid ?? 0);
    if (cgroups) makeCgroups(cgroups, kernelId, { memoryBytes: 64 * 1024 * 1024, cpus: 1, processes: 64 });
    child = launcher.launch({
      candidate,
      kernelId,
      paths,
      uid,
      cgroupEntries: cgroups ? entryFiles(cgroups, groups) : [],
      hostname: 'self-test',
      cpus: null,
      devices: noContribution,
      hasHosts: false,
      processLimit: cgroups?.parents.pids || candidate.sandbox === 'none' ? 0 : 64,
      memoryBytes: 64 * 1024 * 1024,
      environment: (view) => ({ HOME: view.home, TMPDIR: view.tmp, PATH: '/usr/bin:/bin' }),
      command: () => [
        '/bin/sh',
        '-c',
        testScript,
        'self-test',
        candidate.sandbox,
        uid === null ? '' : `${uid}`,
        options.dataDir,
      ],
    });
    logger.debug('sandbox is tried', { ...candidate, cgroups: groups.length > 0, uid });
    // A kernel does not keep this process alive; this test does, or the start would end it.
    child.ref();
    const code = await exitOf(child, clock);
    if (code === 0 && existsSync(join(paths.home, 'proof'))) return true;
    const output = readTail(paths.folder, 'sandbox.log', 2048).toString('utf8');
    logger.info('sandbox does not work here', { ...candidate, cgroups: groups.length > 0, exit_code: code, output });
    return false;
  } catch (error) {
    logger.info('sandbox does not work here', { ...candidate, cgroups: groups.length > 0, error });
    return false;
  } finally {
    const monitor = child?.pid === undefined ? null : identify(child.pid);
    const processes = {
      monitor,
      init: findInit(paths, candidate.sandbox, monitor),
      cgroups: groups,
      label: labelOf(installationId, kernelId),
      uid,
    };
    // After an orderly end there is nothing left to look for.
    if (child && (child.exitCode === null || processesIn(groups).length > 0))
      await endProcesses(processes, clock).catch(() => {});
    for (let tries = 0; !removeCgroups(groups) && tries < 100; tries++) await delay(clock, tries);
    await removeScratch(paths);
    if (uid !== null) uids.release(uid);
  }
}

function exitOf(child: ChildProcess, clock: Clock): Promise<number | null> {
  return new Promise((resolve) => {
    const cancel = clock.setTimer(10_000, () => resolve(null));
    const settle = (code: number | null): void => {
      cancel();
      resolve(code);
    };
    child.once('error', () => settle(null));
    child.once('exit', settle);
  });
}
