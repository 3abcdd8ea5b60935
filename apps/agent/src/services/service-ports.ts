import type { KernelSpec, ServicePort } from '@backend.ai/contract';

/** Of the runner and of services that every image may have; see the label `ai.backend.service-ports`. */
export const reservedPorts: ReadonlySet<number> = new Set([2000, 2001, 2002, 2003, 2200, 7681]);

const protocols: ReadonlySet<string> = new Set(['http', 'tcp', 'vnc', 'rdp', 'preopen', 'internal']);
const entryPattern = /^([^:[\],]+):([^:[\],]+):(?:(\d+)|\[([\d\s,]*)\])$/;
const namePattern = /^[a-z][a-z0-9_-]{0,31}$/;

export interface ParsedServicePorts {
  readonly services: readonly ServicePort[];
  /** What was left out, and why: one sentence each. */
  readonly warnings: readonly string[];
}

/** Reads `name:protocol:port` and `name:protocol:[port,port]`, separated by commas. What is wrong is left out. */
export function parseServicePorts(label: string): ParsedServicePorts {
  const services: ServicePort[] = [];
  const warnings: string[] = [];
  const taken = new Set<number>();
  for (const text of splitEntries(label)) {
    const problem = read(text);
    if (problem !== undefined) warnings.push(`"${text.slice(0, 100)}" is no service port: ${problem}.`);
  }
  return { services, warnings };

  function read(text: string): string | undefined {
    const [, name = '', protocol = '', one, several] = entryPattern.exec(text) ?? [];
    if (name === '') return 'it is not of the form name:protocol:port';
    if (!namePattern.test(name)) return 'its name is not acceptable';
    // Of the original's older images: a terminal, which needs no port here.
    if (protocol === 'pty') return undefined;
    if (!protocols.has(protocol)) return `the protocol ${protocol} is not known`;
    if (services.some((service) => service.name === name)) return 'the name is used twice';
    const ports = (one ?? several ?? '').split(',').map((port) => Number(port.trim() || Number.NaN));
    for (const [at, port] of ports.entries()) {
      if (!Number.isSafeInteger(port) || port <= 1024 || port >= 65_535)
        return 'its ports are not between 1025 and 65534';
      if (reservedPorts.has(port)) return `port ${port} is reserved`;
      if (taken.has(port) || ports.indexOf(port) !== at) return `port ${port} is used twice`;
    }
    for (const port of ports) taken.add(port);
    services.push({ name, protocol: protocol as ServicePort['protocol'], ports });
    return undefined;
  }
}

/** Ports that programs of the user will listen on, each by its number. */
export function preopenServices({ preopenPorts = [] }: Pick<KernelSpec, 'preopenPorts'>): ServicePort[] {
  return preopenPorts.map((port) => ({ name: String(port), protocol: 'preopen', ports: [port] }));
}

/** At commas, but not at those in brackets. */
function splitEntries(label: string): string[] {
  return label
    .split(/,(?![^[]*\])/)
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
}
