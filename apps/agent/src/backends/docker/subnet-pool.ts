import { type Subnet, sizeOfSubnet } from '@backend.ai/core';

/** The first part of this size that shares no address with what is taken; null: none is left. */
export function freeSubnet(pool: Subnet, prefix: number, taken: readonly Subnet[]): Subnet | null {
  const size = sizeOfSubnet(prefix);
  const end = pool.base + sizeOfSubnet(pool.prefix);
  for (let base = pool.base; base + size <= end; ) {
    const other = taken.find((each) => overlap(each, { base, prefix }));
    if (!other) return { base, prefix };
    // On to the first part behind it.
    base += size * Math.ceil((other.base + sizeOfSubnet(other.prefix) - base) / size);
  }
  return null;
}

export function overlap(left: Subnet, right: Subnet): boolean {
  return left.base < right.base + sizeOfSubnet(right.prefix) && right.base < left.base + sizeOfSubnet(left.prefix);
}

/** What the machine has routes to, from the text of /proc/net/route; without the default route. */
export function routedSubnets(table: string): Subnet[] {
  return table.split('\n').flatMap((line) => {
    const [, destination = '', , , , , , mask = ''] = line.split(/\s+/);
    if (!/^[0-9A-F]{8}$/.test(destination) || !/^[0-9A-F]{8}$/.test(mask) || mask === '00000000') return [];
    const prefix = [...littleEndian(mask).toString(2)].filter((bit) => bit === '1').length;
    return [{ base: littleEndian(destination), prefix }];
  });
}

function littleEndian(hex: string): number {
  return Buffer.from(hex, 'hex').readUInt32LE();
}
