import { readFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { type ResourceSlots, slotTypeOf } from '@backend.ai/core';
import type { CgroupLimits } from './cgroups.ts';
import { type Inventory, plainPool, type SlotPool } from './inventory.ts';
import { flatTopology, type NumaTopology, parseNumberList, readNumaTopology } from './numa.ts';

const mebibyte = 1024 * 1024;
const gibibyte = 1024 * mebibyte;
/** Memory is offered in multiples of this. */
const memoryAlignment = 16 * mebibyte;

export interface MachineFacts {
  /** Processors that this process may use, by their numbers. */
  readonly cpus: readonly number[];
  /** How many of them it may keep busy. */
  readonly cpuLimit: number;
  readonly memoryBytes: number;
  readonly topology: NumaTopology;
}

/** Kept from kernels, for the agent and the system. */
export interface SystemReserve {
  readonly cpus: number;
  readonly memoryBytes: number;
}

/** What processors and memory this process may use: affinity and the limits of its own cgroup count. */
export function readMachineFacts(limits: CgroupLimits): MachineFacts {
  const cpus = usableCpus();
  return {
    cpus,
    cpuLimit: Math.max(1, Math.floor(Math.min(cpus.length, limits.cpus ?? Number.POSITIVE_INFINITY))),
    memoryBytes: Math.min(readMemTotal(), limits.memoryBytes ?? Number.POSITIVE_INFINITY),
    topology: readNumaTopology(),
  };
}

/**
 * A sixteenth of the memory, between 128 MiB and 1 GiB, and one processor of eight or more: on a small machine everything
 * shares what there is.
 */
export function defaultReserve({ cpuLimit, memoryBytes }: MachineFacts): SystemReserve {
  return {
    cpus: cpuLimit >= 8 ? 1 : 0,
    memoryBytes: Math.min(gibibyte, Math.max(128 * mebibyte, Math.ceil(memoryBytes / 16))),
  };
}

/**
 * What is left of a machine: its processors, each a device, and its memory. The lowest processors are the ones kept back:
 * interrupts are mostly served there. At least one processor and 64 MiB are offered, whatever the reserve.
 */
export function machineInventory(facts: MachineFacts, reserve: Partial<SystemReserve> = {}): Inventory {
  const { cpus: reservedCpus, memoryBytes: reservedBytes } = { ...defaultReserve(facts), ...defined(reserve) };
  const offered = Math.max(1, facts.cpuLimit - reservedCpus);
  const memory = Math.max(64 * mebibyte, alignDown(facts.memoryBytes - reservedBytes));
  return {
    pools: [cpuPool(facts, offered), plainPool('mem', 'bytes', BigInt(memory) * 1000n)],
    exclusive: [],
    unified: {},
    topology: facts.topology,
    realCpus: true,
  };
}

/** What kernels of this machine can be given besides accelerators. @param stated Instead of what it has. */
export function readMachineInventory(
  limits: CgroupLimits,
  reserve: Partial<SystemReserve> = {},
  stated?: ResourceSlots | undefined,
): Inventory {
  const facts = readMachineFacts(limits);
  return stated ? statedInventory(stated, facts) : machineInventory(facts, reserve);
}

/** What an operator says a machine has. As many processors as it really has are real ones; more of them are only counted. */
export function statedInventory(slots: ResourceSlots, facts: MachineFacts): Inventory {
  const { cpu = 0n } = slots;
  const count = Number(cpu / 1000n);
  const realCpus = count > 0 && cpu % 1000n === 0n && count <= facts.cpus.length;
  const pools = plainInventory(slots).pools.map((pool) =>
    pool.slot === 'cpu' && realCpus ? cpuPool(facts, count) : pool,
  );
  return { ...plainInventory(slots), pools, topology: facts.topology, realCpus };
}

/** Amounts without devices behind them. */
export function plainInventory(slots: ResourceSlots): Inventory {
  const pools = Object.entries(slots).map(([slot, amount]) => plainPool(slot, slotTypeOf(slot), amount));
  return { pools, exclusive: [], unified: {}, topology: flatTopology, realCpus: false };
}

function cpuPool({ cpus, topology }: MachineFacts, count: number): SlotPool {
  const devices = cpus.slice(-count).map((cpu) => ({
    id: String(cpu),
    capacity: 1000n,
    numaNode: topology.nodeOfCpu.get(cpu) ?? null,
  }));
  return {
    slot: 'cpu',
    family: 'cpu',
    type: 'count',
    division: { kind: 'discrete', unit: 1000n, divisible: true },
    devices,
  };
}

function alignDown(bytes: number): number {
  return Math.floor(bytes / memoryAlignment) * memoryAlignment;
}

function defined<Value extends object>(value: Value): Partial<Value> {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as Partial<Value>;
}

function usableCpus(): number[] {
  const allowed = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readQuietly('/proc/self/status') ?? '')?.[1];
  const cpus = parseNumberList(allowed ?? '');
  return cpus.length > 0 ? cpus : Array.from({ length: availableParallelism() }, (_, index) => index);
}

function readMemTotal(): number {
  const kilobytes = /^MemTotal:\s+(\d+) kB/m.exec(readQuietly('/proc/meminfo') ?? '')?.[1];
  return kilobytes === undefined ? totalmem() : Number(kilobytes) * 1024;
}

/** Not Linux, or /proc is hidden: others know it, too. */
function readQuietly(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
