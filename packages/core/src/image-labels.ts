import { parseBinarySize } from './binary-size.ts';
import { AppError } from './errors.ts';
import {
  addSlots,
  parseResourceSlots,
  type ResourceSlots,
  type ResourceSlotTexts,
  slotsToTexts,
} from './resource-slots.ts';

/**
 * What the labels of a container image say of it. Images come from anywhere: a label that makes no sense is left out and
 * told of, and everything else of the image counts.
 */
export interface ImageFacts {
  /** It says itself that it is made for sessions: `ai.backend.kernelspec`. */
  readonly isKernel: boolean;
  readonly role: ImageRole;
  /** Which runner speaks for it in query mode. */
  readonly language: ImageLanguage;
  /** Where its interpreter is, inside the image; null: where the runner finds one. */
  readonly runtimePath: string | null;
  /** Families such as `cuda`, for which it is made; none: it does not say. */
  readonly accelerators: readonly string[];
  readonly servicePorts: readonly LabelledPort[];
  /** Of `servicePorts`, those that serve a model. */
  readonly endpointPorts: readonly string[];
  /** Variables that are to tell programs how many processors they have. */
  readonly coreCountVariables: readonly string[];
  /** Lowest and default amounts. */
  readonly minSlots: ResourceSlotTexts;
  /** Highest amounts, of slots that have one. */
  readonly maxSlots: ResourceSlotTexts;
  /** Bytes of shared memory it wants. */
  readonly shmem: string;
  readonly warnings: readonly ImageWarning[];
}

export const imageRoles = ['compute', 'inference', 'system'] as const;
export type ImageRole = (typeof imageRoles)[number];
export const imageLanguages = ['python', 'node', 'shell'] as const;
export type ImageLanguage = (typeof imageLanguages)[number];

export const labelledProtocols = ['http', 'tcp', 'vnc', 'rdp', 'preopen', 'internal'] as const;

/** Something that listens in a kernel of the image. */
export interface LabelledPort {
  readonly name: string;
  readonly protocol: (typeof labelledProtocols)[number];
  readonly ports: readonly number[];
}

/** A label that was left out, or a part of one. */
export interface ImageWarning {
  readonly code: 'invalid-label';
  readonly label: string;
  readonly problem: string;
}

/** Every session needs some, whatever its image says. */
const leastSlots: ResourceSlots = { cpu: 1000n, mem: 64n * 1024n * 1024n * 1000n };
const defaultShmem = 64n * 1024n * 1024n;
/** Of the runner, the terminal and ssh. */
const reservedPorts: ReadonlySet<number> = new Set([2000, 2001, 2002, 2003, 2200, 7681]);
const [lowestPort, highestPort] = [1025, 65_534];
/** What is kept of each label and of all: they come from strangers. */
const maxLength = 4_096;
const maxWarnings = 50;

export function readImageLabels(labels: Readonly<Record<string, string>>): ImageFacts {
  return new LabelReader(labels).read();
}

class LabelReader {
  readonly #labels: ReadonlyMap<string, string>;
  readonly #warnings: ImageWarning[] = [];

  constructor(labels: Readonly<Record<string, string>>) {
    this.#labels = new Map(Object.entries(labels).filter(([name]) => name.startsWith('ai.backend.')));
  }

  read(): ImageFacts {
    const servicePorts = this.#servicePorts();
    return {
      isKernel: this.#labels.has('ai.backend.kernelspec') && this.#kernelspec(),
      role: this.#oneOf('ai.backend.role', imageRoles, 'compute'),
      language: this.#language(),
      runtimePath: this.#runtimePath(),
      accelerators: this.#words('ai.backend.accelerators', /[\s,]+/),
      servicePorts,
      endpointPorts: this.#endpointPorts(servicePorts),
      coreCountVariables: this.#words('ai.backend.envs.corecount', /[\s,]+/, /^[A-Za-z_][A-Za-z0-9_]*$/),
      ...this.#amounts(),
      shmem: String(this.#shmem()),
      warnings: this.#warnings,
    };
  }

  #warn(label: string, problem: string): void {
    if (this.#warnings.length < maxWarnings) {
      this.#warnings.push({ code: 'invalid-label', label: label.slice(0, 200), problem });
    }
  }

  #text(label: string): string | undefined {
    const text = this.#labels.get(label);
    if (text === undefined) return undefined;
    if (text.length <= maxLength) return text.trim();
    this.#warn(label, `is longer than ${maxLength} characters`);
    return undefined;
  }

  #kernelspec(): boolean {
    const version = this.#text('ai.backend.kernelspec');
    if (version !== '1') this.#warn('ai.backend.kernelspec', 'is not 1, the only version there is');
    return true;
  }

  #oneOf<const Value extends string>(label: string, values: readonly Value[], otherwise: Value): Value {
    const text = this.#text(label);
    if (text === undefined || text === '') return otherwise;
    const found = values.find((value) => value === text.toLowerCase());
    if (!found) this.#warn(label, `is none of ${values.join(', ')}; it counts as ${otherwise}`);
    return found ?? otherwise;
  }

  #language(): ImageLanguage {
    const type = this.#text('ai.backend.runtime-type')?.toLowerCase();
    if (type === undefined || type === '' || type === 'app') return 'shell';
    if (type === 'nodejs') return 'node';
    return this.#oneOf('ai.backend.runtime-type', imageLanguages, 'shell');
  }

  #runtimePath(): string | null {
    const path = this.#text('ai.backend.runtime-path');
    if (path === undefined || path === '') return null;
    if (/^\/[^\0\s]+$/.test(path)) return path;
    this.#warn('ai.backend.runtime-path', 'is no absolute path');
    return null;
  }

  #words(label: string, separator: RegExp, form = /^[A-Za-z0-9][A-Za-z0-9._:-]*$/): string[] {
    const words = (this.#text(label) ?? '').split(separator).filter((word) => word !== '');
    const good = words.filter((word) => form.test(word));
    if (good.length < words.length) this.#warn(label, 'has words that are no names');
    return [...new Set(good)];
  }

  #servicePorts(): LabelledPort[] {
    const label = 'ai.backend.service-ports';
    const text = this.#text(label) ?? '';
    const found: LabelledPort[] = [];
    const taken = new Set<number>();
    // Commas separate services, and also the ports in brackets of one.
    for (const item of text.match(/[^,[\]]*\[[^\]]*\]?[^,]*|[^,]+/g) ?? []) {
      const entry = item.trim();
      if (entry === '') continue;
      const problem = (words: string): void => this.#warn(label, `"${entry.slice(0, 80)}" ${words}`);
      const [, name = '', protocol = '', list = ''] = /^([^:]*):([^:]*):(.*)$/.exec(entry) ?? [];
      if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(name) || list === '') {
        problem('is not name:protocol:port');
        continue;
      }
      if (protocol === 'pty') continue;
      const known = labelledProtocols.find((each) => each === protocol);
      if (!known) {
        problem(`has none of the protocols ${labelledProtocols.join(', ')}`);
        continue;
      }
      const digits = /^\[(.*)\]$/.exec(list)?.[1] ?? list;
      const ports = digits.split(',').map((port) => (/^\s*\d{1,5}\s*$/.test(port) ? Number(port) : Number.NaN));
      if (ports.some((port) => !(port >= lowestPort && port <= highestPort) || reservedPorts.has(port))) {
        problem(`has a port that is reserved or not in ${lowestPort} to ${highestPort}`);
      } else if (ports.some((port) => taken.has(port)) || new Set(ports).size < ports.length) {
        problem('has a port that another one has');
      } else if (found.some((service) => service.name === name)) {
        problem('has a name that another one has');
      } else {
        for (const port of ports) taken.add(port);
        found.push({ name, protocol: known, ports });
      }
    }
    return found;
  }

  #endpointPorts(services: readonly LabelledPort[]): string[] {
    const label = 'ai.backend.endpoint-ports';
    const names = this.#words(label, /[\s,]+/);
    const known = names.filter((name) => services.some((service) => service.name === name));
    if (known.length < names.length) this.#warn(label, 'names services that ai.backend.service-ports has not');
    return known;
  }

  #amounts(): Pick<ImageFacts, 'minSlots' | 'maxSlots'> {
    const min = { ...leastSlots, ...this.#slots('ai.backend.resource.min.') };
    const max: Record<string, bigint> = { ...this.#slots('ai.backend.resource.max.') };
    for (const [name, most] of Object.entries(max)) {
      if (most >= (min[name] ?? 0n)) continue;
      this.#warn(`ai.backend.resource.max.${name}`, 'is below the minimum');
      delete max[name];
    }
    return { minSlots: slotsToTexts(min), maxSlots: slotsToTexts(max) };
  }

  #slots(prefix: string): ResourceSlots {
    let slots: ResourceSlots = {};
    for (const label of this.#labels.keys()) {
      if (!label.startsWith(prefix)) continue;
      const text = this.#text(label);
      if (text === undefined || text === '') continue;
      try {
        slots = addSlots(slots, parseResourceSlots({ [label.slice(prefix.length)]: text }));
      } catch (thrown) {
        this.#warn(label, AppError.from(thrown).message);
      }
    }
    return slots;
  }

  #shmem(): bigint {
    const label = 'ai.backend.resource.preferred.shmem';
    const text = this.#text(label);
    if (text === undefined || text === '') return defaultShmem;
    try {
      return parseBinarySize(text);
    } catch (thrown) {
      this.#warn(label, AppError.from(thrown).message);
      return defaultShmem;
    }
  }
}
