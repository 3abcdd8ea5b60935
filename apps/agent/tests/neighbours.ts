import { execFileSync } from 'node:child_process';
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
  const name = `bai-test-${process.pid}`;
  const ip = (...args: string[]): unknown => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  ip('netns', 'add', name);
  onTestFinished(() => void ip('netns', 'del', name));
  const link = `bai-${process.pid}n`;
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  ip('-n', name, 'link', 'set', 'eth0', 'up');
  ip('-n', name, 'route', 'add', 'default', 'dev', 'eth0');
  ip('link', 'set', link, 'up');
  for (const address of addresses) {
    ip('-n', name, 'address', 'add', `${address}/32`, 'dev', 'eth0');
    ip('route', 'add', `${address}/32`, 'dev', link);
  }
}

/** What the kernel gets when it connects: `open`, `refused` by whom it reached, or `dropped` on the way. */
export function dial(api: StartedAgent['api'], kernelId: string, host: string, port: number): Promise<string> {
  return tried(api, kernelId, `socket.create_connection((${JSON.stringify(host)}, ${port}), 2).close()`);
}

/** The same with a datagram. */
export function dialUdp(api: StartedAgent['api'], kernelId: string, host: string, port: number): Promise<string> {
  return tried(
    api,
    kernelId,
    `s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(2); s.connect((${JSON.stringify(host)}, ${port})); s.send(b"x"); s.recv(1)`,
  );
}

async function tried(api: StartedAgent['api'], kernelId: string, statement: string): Promise<string> {
  const code = [
    'import socket',
    `try: ${statement}; print("open")`,
    'except TimeoutError: print("dropped")',
    'except ConnectionRefusedError: print("refused")',
    'except OSError as error: print(type(error).__name__)',
  ].join('\n');
  const result = await runCode(api, kernelId, code);
  return textOf(result).trim() || JSON.stringify(result);
}
