import { execFile } from 'node:child_process';
import { AppError } from '@backend.ai/core';
import { findProgram, searchFolders } from '../../files/programs.ts';
import { chainsOf, firewallRules } from './firewall-rules.ts';
import type { Subnet } from './subnet-pool.ts';

/** Keeps containers with an address of the pool from this machine, from cloud metadata and from one another's networks. */
export interface Firewall {
  /**
   * Puts its rules in place, again if somebody has flushed them. They stay when the agent ends, as its containers do.
   * @throws AppError `isolation-unavailable`
   */
  ensure(): Promise<void>;
}

/** Null where this process may not set rules, or the machine has no iptables. */
export function findFirewall(pool: Subnet): Firewall | null {
  const folders = searchFolders('');
  const iptables = findProgram('iptables', folders);
  const restore = findProgram('iptables-restore', folders);
  if (process.getuid?.() !== 0 || iptables === null || restore === null) return null;
  return { ensure: () => ensure(pool, { iptables, restore }) };
}

interface Programs {
  readonly iptables: string;
  readonly restore: string;
}

async function ensure(pool: Subnet, { iptables, restore }: Programs): Promise<void> {
  const { toMachine, through } = chainsOf(pool);
  await run(restore, [...waiting, '--noflush'], firewallRules(pool));
  await enter(iptables, 'INPUT', toMachine);
  // Docker leaves this chain to others, and passes it before its own rules. Other engines have none.
  const forUsers = await succeeds(iptables, [...waiting, '-n', '-L', 'DOCKER-USER']);
  await enter(iptables, forUsers ? 'DOCKER-USER' : 'FORWARD', through);
}

/** For the lock that all who set rules share, in seconds. */
const waiting = ['-w', '5'];
const timeoutMs = 10_000;

/** Before what is there: that may accept everything. */
async function enter(iptables: string, from: string, chain: string): Promise<void> {
  if (await succeeds(iptables, [...waiting, '-C', from, '-j', chain])) return;
  await run(iptables, [...waiting, '-I', from, '1', '-j', chain]);
}

async function succeeds(file: string, args: readonly string[]): Promise<boolean> {
  return await run(file, args).then(
    () => true,
    () => false,
  );
}

function run(file: string, args: readonly string[], input = ''): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      args,
      { timeout: timeoutMs, killSignal: 'SIGKILL', cwd: '/' },
      (cause, _out, errors) => {
        if (!cause) return resolve();
        reject(
          new AppError('isolation-unavailable', 'The firewall of this machine could not be told to guard it.', {
            hint: 'Give the agent the right to set rules (CAP_NET_ADMIN), or do not run it as root.',
            detail: { file, args, errors: errors.slice(0, 2000) },
            cause,
          }),
        );
      },
    );
    // A program that ends before it has read everything says why by its exit code.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}
