/** A range of IPv4 addresses. */
export interface Subnet {
  readonly base: number;
  readonly prefix: number;
}

// A zero in front means octal to some programs: nobody is to read another range than we do.
const octet = '(0|[1-9]\\d{0,2})';
const pattern = new RegExp(`^${octet}\\.${octet}\\.${octet}\\.${octet}/(0|[1-9]\\d?)$`);

/** Null for what is no range: bits beyond the prefix have to be zero. */
export function parseSubnet(text: string): Subnet | null {
  const [, a, b, c, d, length] = pattern.exec(text) ?? [];
  const bytes = [a, b, c, d].map(Number);
  const prefix = Number(length);
  if (length === undefined || prefix > 32 || bytes.some((byte) => byte > 255)) return null;
  const base = bytes.reduce((sum, byte) => sum * 256 + byte, 0);
  return base % sizeOfSubnet(prefix) === 0 ? { base, prefix } : null;
}

export function formatSubnet({ base, prefix }: Subnet): string {
  return `${formatAddress(base)}/${prefix}`;
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

/** Addresses in a range with a prefix of so many bits. */
export function sizeOfSubnet(prefix: number): number {
  return 2 ** (32 - prefix);
}
