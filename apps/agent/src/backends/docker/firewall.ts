import { execFile } from 'node:child_process';
import { AppError, type Subnet } from '@backend.ai/core';
import { findProgram, searchFolders } from '../../files/programs.ts';
import { firewallRules, firewallTable, type GuardedNetwork, rulesOfNew, withoutNetwork } from './firewall-rules.ts';
import { nameServersOfMachine } from './name-servers.ts';

/**
 * Keeps containers with an address of the pool from this machine, from cloud metadata and from one another's networks, and
 * those of a network with an egress policy to what that allows.
 */
export interface Firewall {
  /**
   * Puts in place what is missing of its rules, as somebody may have flushed them. They stay when the agent ends, as its
   * containers do.
   * @param networks All that are here now
   * @throws AppError `isolation-unavailable`
   */
  ensure(networks: readonly GuardedNetwork[]): Promise<void>;
  /**
   * Puts in place what new networks have of their own, without a look at what is there: `ensure` sees to the rest.
   * @param networks Of which nothing is there yet
   * @throws AppError `isolation-unavailable`
   */
  add(networks: readonly GuardedNetwork[]): Promise<void>;
  /**
   * Takes away what a network has of its own. While it has containers, they may call more.
   * @param bridge That of its `GuardedNetwork`
   * @throws AppError `isolation-unavailable`
   */
  release(bridge: string): Promise<void>;
}

/**
 * Null where this process may not set rules, or the machine has no iptables.
 * @param nameServers That networks with a list of what they may call may ask in any case
 */
export function findFirewall(pool: Subnet, nameServers: () => string[] = nameServersOfMachine): Firewall | null {
  const folders = searchFolders('');
  const iptables = findProgram('iptables', folders);
  const restore = findProgram('iptables-restore', folders);
  if (process.getuid?.() !== 0 || iptables === null || restore === null) return null;
  const present = (): Promise<string> => run(iptables, [...waiting, '-t', firewallTable, '-S']);
  const apply = (rules: string): Promise<string> => run(restore, [...waiting, '--noflush'], rules);
  return {
    ensure: async (networks) => {
      const rules = firewallRules(pool, networks, nameServers(), await present());
      if (rules !== null) await apply(rules);
    },
    add: async (networks) => {
      await apply(rulesOfNew(networks, nameServers()));
    },
    release: async (bridge) => {
      const rules = withoutNetwork(bridge, await present());
      if (rules !== null) await apply(rules);
    },
  };
}

/** For the lock that all who set rules share, in seconds. */
const waiting = ['-w', '5'];
const timeoutMs = 10_000;
/** Machines that run much else have many rules. */
const mostOutput = 64 * 1024 * 1024;

function run(file: string, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout: timeoutMs, killSignal: 'SIGKILL', cwd: '/', maxBuffer: mostOutput } as const;
    const child = execFile(file, args, options, (cause, output, errors) => {
      if (!cause) return resolve(output);
      reject(
        new AppError('isolation-unavailable', 'The firewall of this machine could not be told to guard it.', {
          hint: 'Give the agent the right to set rules (CAP_NET_ADMIN), or do not run it as root.',
          detail: { file, args, errors: errors.slice(0, 2000) },
          cause,
        }),
      );
    });
    // A program that ends before it has read everything says why by its exit code.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}
