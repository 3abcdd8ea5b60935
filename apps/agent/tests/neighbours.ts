import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { waitFor } from '@backend.ai/testing';
import { onTestFinished } from 'vitest';
import { firewallTable } from '../src/backends/docker/firewall-rules.ts';
import { runCode, type StartedAgent, textOf } from './agent-world.ts';

/** What is beyond the machine, and how far a kernel gets there. */

/** In the table that our rules are in. */
export function iptables(...args: string[]): string {
  return execFileSync('iptables', ['-w', '5', '-t', firewallTable, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/**
 * A neighbour of the machine that only routes lead to, as clouds have one for their metadata. Nothing listens there: what
 * arrives is refused.
 */
export function neighbour(...addresses: string[]): void {
  // Not by process: those of an engine of ours have the same numbers again and again, and a killed test leaves its names.
  const own = randomBytes(4).toString('hex');
  const name = `bai-test-${own}`;
  const ip = (...args: string[]): unknown => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  ip('netns', 'add', name);
  onTestFinished(() => void ip('netns', 'del', name));
  const link = `bai-${own}n`;
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  // Before its namespace, with which it would go some time later, and be in the way of the next one.
  onTestFinished(() => void ip('link', 'del', link));
  ip('-n', name, 'link', 'set', 'eth0', 'up');
  ip('-n', name, 'route', 'add', 'default', 'dev', 'eth0');
  ip('link', 'set', link, 'up');
  for (const address of addresses) {
    ip('-n', name, 'address', 'add', `${address}/32`, 'dev', 'eth0');
    ip('route', 'add', `${address}/32`, 'dev', link);
  }
}

/** What everything on the bridge of a gateway can call without anybody having given it an address. */
export async function linkLocalOf(gateway: string): Promise<string> {
  return await waitFor(
    () => {
      const bridge = Object.values(networkInterfaces()).find((each) =>
        each?.some(({ address }) => address === gateway),
      );
      return bridge?.find(({ address }) => address.startsWith('fe80:'))?.address;
    },
    { what: `a link-local address beside ${gateway}` },
  );
}

/** Of the network of a process, which has no right to do that itself. */
export function enableIPv6(pid: number): void {
  const write = 'echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6';
  execFileSync('nsenter', ['--target', String(pid), '--net', 'sh', '-c', write], { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A call to a host and port. */
export type Call = readonly [host: string, port: number, protocol?: 'tcp' | 'udp'];

/** What the kernel gets when it connects: `open`, `refused` by whom it reached, or `dropped` on the way. */
export async function dial(api: StartedAgent['api'], kernelId: string, ...call: Call): Promise<string> {
  const [outcome] = await dialAll(api, kernelId, [call]);
  return outcome!;
}

/** The same of several calls that are made at once, in their order. */
export async function dialAll(api: StartedAgent['api'], kernelId: string, calls: readonly Call[]): Promise<string[]> {
  const result = await runCode(
    api,
    kernelId,
    `${dialer}\nprint(json.dumps(list(pool.map(dial, ${JSON.stringify(calls)}))))`,
  );
  const text = textOf(result);
  if (!text.startsWith('[')) throw new Error(`No calls were made: ${JSON.stringify(result)}`);
  return JSON.parse(text);
}

const dialer = `
import json, socket
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(16)
def dial(call):
    host, port, protocol = [*call, "tcp"][:3]
    try:
        if protocol == "tcp":
            socket.create_connection((host, port), 2).close()
        else:
            s = socket.socket(type=socket.SOCK_DGRAM)
            s.settimeout(2)
            s.connect((host, port))
            s.send(b"x")
            s.recv(1)
        return "open"
    except TimeoutError: return "dropped"
    except ConnectionRefusedError: return "refused"
    except OSError as error: return type(error).__name__`;
