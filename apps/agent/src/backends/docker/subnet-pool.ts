/** A range of IPv4 addresses. */
export interface Subnet {
  readonly base: number;
  readonly prefix: number;
}

/** Null for what is no range: bits beyond the prefix have to be zero. */
export function parseSubnet(text: string): Subnet | null {
  const [, a, b, c, d, length] = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text) ?? [];
  const bytes = [a, b, c, d].map(Number);
  const prefix = Number(length);
  if (length === undefined || prefix > 32 || bytes.some((byte) => byte > 255)) return null;
  const base = bytes.reduce((sum, byte) => sum * 256 + byte, 0);
  return base % sizeOf(prefix) === 0 ? { base, prefix } : null;
}

export function formatSubnet({ base, prefix }: Subnet): string {
  return `${[24, 16, 8, 0].map((shift) => Math.floor(base / 2 ** shift) % 256).join('.')}/${prefix}`;
}

/** The first part of this size that shares no address with what is taken; null: none is left. */
export function freeSubnet(pool: Subnet, prefix: number, taken: readonly Subnet[]): Subnet | null {
  const size = sizeOf(prefix);
  const end = pool.base + sizeOf(pool.prefix);
  for (let base = pool.base; base + size <= end; ) {
    const other = taken.find((each) => overlap(each, { base, prefix }));
    if (!other) return { base, prefix };
    // On to the first part behind it.
    base += size * Math.ceil((other.base + sizeOf(other.prefix) - base) / size);
  }
  return null;
}

export function overlap(left: Subnet, right: Subnet): boolean {
  return left.base < right.base + sizeOf(right.prefix) && right.base < left.base + sizeOf(left.prefix);
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

function sizeOf(prefix: number): number {
  return 2 ** (32 - prefix);
}
