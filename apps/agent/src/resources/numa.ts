import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Which processors and memory lie together, and how far the others are. */
export interface NumaTopology {
  readonly nodes: readonly number[];
  readonly nodeOfCpu: ReadonlyMap<number, number>;
  /** As the firmware tells it: 10 is the same node. Infinity for nodes that do not exist. */
  distance(from: number, to: number): number;
}

/** Text of a file, null where there is none. */
export type ReadText = (path: string) => string | null;

const sameNode = 10;

/** Of a machine about which nothing is known: everything lies together. */
export const flatTopology: NumaTopology = {
  nodes: [0],
  nodeOfCpu: new Map(),
  distance: (from, to) => (from === to ? sameNode : Number.POSITIVE_INFINITY),
};

/** From the folder that Linux keeps of the nodes; `flatTopology` where it keeps none. */
export function readNumaTopology(read: ReadText = readFile, folder = '/sys/devices/system/node'): NumaTopology {
  const nodes = parseNumberList(read(join(folder, 'online')) ?? '');
  if (nodes.length === 0) return flatTopology;
  const nodeOfCpu = new Map<number, number>();
  const distances = new Map<number, readonly number[]>();
  for (const node of nodes) {
    const at = join(folder, `node${node}`);
    for (const cpu of parseNumberList(read(join(at, 'cpulist')) ?? '')) nodeOfCpu.set(cpu, node);
    distances.set(node, (read(join(at, 'distance')) ?? '').trim().split(/\s+/).map(Number));
  }
  return {
    nodes,
    nodeOfCpu,
    distance(from, to) {
      const told = distances.get(from)?.[nodes.indexOf(to)];
      if (told !== undefined && told > 0) return told;
      return from === to && nodes.includes(from) ? sameNode : Number.POSITIVE_INFINITY;
    },
  };
}

/** `0-3,8` as the kernel writes it. Anything else in it is passed over. */
export function parseNumberList(text: string): number[] {
  return text
    .trim()
    .split(',')
    .flatMap((range) => {
      const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(range.trim()) ?? [];
      if (first === undefined) return [];
      const length = Math.max(0, Number(last) - Number(first) + 1);
      return Array.from({ length }, (_, index) => Number(first) + index);
    });
}

/** The other way round, as short as it gets. */
export function formatNumberList(numbers: readonly number[]): string {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  const ranges: Array<{ readonly first: number; last: number }> = [];
  for (const number of sorted) {
    const range = ranges.at(-1);
    if (range && range.last === number - 1) range.last = number;
    else ranges.push({ first: number, last: number });
  }
  return ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
}

function readFile(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
