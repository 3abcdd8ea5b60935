import { existsSync, type StatsFs } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { CounterFile } from '../resources/counter-file.ts';
import { parseNetworkDevices } from '../resources/network-usage.ts';
import type { Measurement } from './metric.ts';
import type { Measurements } from './metric-histories.ts';

/** What the files of /proc tell, as texts. Null: not there. */
export interface MachineTexts {
  readonly stat: string | null;
  readonly meminfo: string | null;
  readonly netDev: string | null;
}

/** Linux tells time in ticks of this length to all programs. */
const tickMs = 10;

/** The numbers of a whole machine, under the names that the official API has for them. */
export function machineMeasurements(
  { stat, meminfo, netDev }: MachineTexts,
  disk: Pick<StatsFs, 'blocks' | 'bfree' | 'bavail' | 'bsize'> | null,
  isPhysical: (networkInterface: string) => boolean,
): Measurements {
  const network = netDev === null ? null : networkOf(netDev, isPhysical);
  const busyMs = stat === null ? null : busyMsIn(stat);
  return {
    cpu_util: busyMs === null ? null : { kind: 'growth', unit: 'msec', value: busyMs, capacity: null },
    mem: meminfo === null ? null : memoryIn(meminfo),
    disk: disk === null ? null : diskOf(disk),
    net_rx: network && { kind: 'rate', unit: 'bps', value: network.receivedBytes, capacity: null },
    net_tx: network && { kind: 'rate', unit: 'bps', value: network.sentBytes, capacity: null },
  };
}

/** Time of all cores that was neither idle nor waiting for disks. */
function busyMsIn(stat: string): number | null {
  const fields = /^cpu +(.*)$/m.exec(stat)?.[1]?.split(' ').map(Number);
  if (!fields || fields.length < 4) return null;
  // user nice system idle iowait irq softirq steal; guests are part of user and nice.
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = fields;
  return (user + nice + system + irq + softirq + steal) * tickMs;
}

function memoryIn(meminfo: string): Measurement | null {
  const of = (name: string): number => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(meminfo)?.[1]) * 1024;
  const [total, available] = [of('MemTotal'), of('MemAvailable')];
  return Number.isNaN(total - available)
    ? null
    : { kind: 'gauge', unit: 'bytes', value: total - available, capacity: total };
}

/** What is kept for the administrator is not to be had. */
function diskOf({ blocks, bfree, bavail, bsize }: Parameters<typeof machineMeasurements>[1] & object): Measurement {
  const used = (blocks - bfree) * bsize;
  return { kind: 'gauge', unit: 'bytes', value: used, capacity: used + bavail * bsize };
}

/** Bridges and tunnels carry again what goes through the others. */
function networkOf(netDev: string, isPhysical: (name: string) => boolean) {
  const names = [...netDev.matchAll(/^ *([^:\s]+):/gm)].map(([, name]) => name ?? '');
  return names.some(isPhysical) ? parseNetworkDevices(netDev, isPhysical) : parseNetworkDevices(netDev);
}

/** Looks at the machine that it runs on. */
export class MachineFiles {
  readonly #stat = new CounterFile('/proc/stat');
  readonly #meminfo = new CounterFile('/proc/meminfo');
  readonly #netDev = new CounterFile('/proc/net/dev');
  readonly #folder: string;
  readonly #physical = new Map<string, boolean>();

  /** @param folder On the disk that counts */
  constructor(folder: string) {
    this.#folder = folder;
  }

  async measure(): Promise<Measurements> {
    const disk = await statfs(this.#folder).catch(() => null);
    const texts = { stat: this.#stat.read(), meminfo: this.#meminfo.read(), netDev: this.#netDev.read() };
    return machineMeasurements(texts, disk, (name) => this.#isPhysical(name));
  }

  close(): void {
    for (const file of [this.#stat, this.#meminfo, this.#netDev]) file.close();
  }

  #isPhysical(name: string): boolean {
    const known = this.#physical.get(name);
    if (known !== undefined) return known;
    const isPhysical = existsSync(`/sys/class/net/${name}/device`);
    this.#physical.set(name, isPhysical);
    return isPhysical;
  }
}
