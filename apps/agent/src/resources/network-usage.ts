import { readFileSync, readlinkSync } from 'node:fs';

export interface NetworkUsage {
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

/**
 * From the text of `net/dev`: what went through the interfaces that count, all together.
 * @param counts By name; unless given all but the one to itself
 */
export function parseNetworkDevices(
  text: string,
  counts: (name: string) => boolean = (name) => name !== 'lo',
): NetworkUsage {
  let [receivedBytes, sentBytes] = [0, 0];
  for (const line of text.split('\n').slice(2)) {
    const [name = '', rest = ''] = line.split(':');
    if (rest === '' || !counts(name.trim())) continue;
    const fields = rest.trim().split(/\s+/).map(Number);
    receivedBytes += fields[0] ?? 0;
    sentBytes += fields[8] ?? 0;
  }
  return { receivedBytes, sentBytes };
}

/**
 * Of the network that a process is in, since that was made.
 * Null: it is this process's own, so that what goes through it says nothing about the other; or the process is gone.
 */
export function readNetworkOf(pid: number): NetworkUsage | null {
  try {
    if (readlinkSync(`/proc/${pid}/ns/net`) === readlinkSync('/proc/self/ns/net')) return null;
    return parseNetworkDevices(readFileSync(`/proc/${pid}/net/dev`, 'latin1'));
  } catch {
    return null;
  }
}
