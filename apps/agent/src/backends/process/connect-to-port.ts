import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { connected, notListening } from '../scratch/kernel-streams.ts';

/**
 * A TCP port of a kernel. Kernels share the machine's network, so a port is the kernel's only if one of its processes
 * listens there: others are refused, or a ticket would open any service of the machine.
 * @throws AppError `state-conflict`
 */
export async function connectToPort(port: number, uid: number | null, pids: () => readonly number[]): Promise<Duplex> {
  const listeners = listenersOn(port);
  const owned =
    uid === null
      ? holdsSocket(pids(), new Set(listeners.map(({ inode }) => inode)))
      : listeners.some((each) => each.uid === uid);
  if (!owned) throw notListening(`port ${port}`);
  const loopback6 = listeners.length > 0 && listeners.every((each) => each.onlyIpv6);
  return await connected(connect({ port, host: loopback6 ? '::1' : '127.0.0.1' }), `port ${port}`);
}

interface Listener {
  readonly uid: number;
  readonly inode: string;
  readonly onlyIpv6: boolean;
}

function listenersOn(port: number): Listener[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return (['tcp', 'tcp6'] as const).flatMap((table) => {
    let text: string;
    try {
      text = readFileSync(`/proc/net/${table}`, 'latin1');
    } catch {
      return [];
    }
    return text
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter(([, local, , state]) => local?.endsWith(suffix) && state === '0A')
      .map((fields) => ({
        uid: Number(fields[7]),
        inode: fields[9] ?? '',
        // An unspecified IPv6 address usually takes IPv4 too.
        onlyIpv6: table === 'tcp6' && !/^0+:/.test(fields[1] ?? ''),
      }));
  });
}

function holdsSocket(pids: readonly number[], inodes: ReadonlySet<string>): boolean {
  return pids.some((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => {
        const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? [];
        return inode !== undefined && inodes.has(inode);
      });
    } catch {
      return false;
    }
  });
}
