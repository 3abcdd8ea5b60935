import type { Image } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { AgentRecord } from '../../repositories/agents.ts';
import type { AgentDirectory } from '../agents/agent-directory.ts';

export interface ResolvedImage {
  readonly image: Image;
  /** Agents that offer it, whether alive or not. */
  readonly agents: readonly AgentRecord[];
}

/** The images that the known agents offer, and which one a user means. */
export class ImageService {
  readonly #agents: AgentDirectory;

  constructor(agents: AgentDirectory) {
    this.#agents = agents;
  }

  async list(): Promise<Image[]> {
    const byKey = new Map<string, Image>();
    for (const agent of await this.#agents.list()) {
      for (const image of agent.images) byKey.set(`${image.architecture} ${image.name}`, image);
    }
    return [...byKey.values()].sort((a, b) => compareNames(a.name, b.name));
  }

  /**
   * A canonical name, or an alias; of several that answer to an alias the highest version. What no agent is known to
   * offer is looked up once more, for an agent may have registered at another manager.
   * @throws AppError `unknown-image`, `no-agent`
   */
  async resolve(ref: string, architecture: string | undefined): Promise<ResolvedImage> {
    const wanted = architecture === undefined ? undefined : canonicalArchitecture(architecture);
    const found = find(await this.#agents.list(), ref, wanted);
    if (found) return found;
    const agents = [...(await this.#agents.reload()).values()];
    const again = find(agents, ref, wanted);
    if (again) return again;
    if (agents.length === 0) throw new AppError('no-agent', 'No agent has joined the cluster yet.');
    const known = [...new Set(agents.flatMap((agent) => agent.images.map((image) => image.name)))].sort();
    throw new AppError('unknown-image', `No agent offers the image "${ref}".`, {
      data: {
        fields: { image: 'is offered by no agent' },
        image: ref,
        ...(wanted === undefined ? {} : { architecture: wanted }),
        known,
      },
    });
  }
}

function find(
  agents: readonly AgentRecord[],
  ref: string,
  architecture: string | undefined,
): ResolvedImage | undefined {
  // One of each, since hundreds of agents offer the same: an alive one's if there is any.
  const candidates = new Map<string, { image: Image; alive: boolean; exact: boolean }>();
  for (const { status, images } of agents) {
    const alive = status === 'ALIVE';
    for (const image of images) {
      const exact = image.name === ref;
      if (!exact && !image.aliases.includes(ref)) continue;
      if (architecture !== undefined && canonicalArchitecture(image.architecture) !== architecture) continue;
      const key = `${image.architecture} ${image.name}`;
      if (!candidates.has(key) || (alive && !candidates.get(key)?.alive)) candidates.set(key, { image, alive, exact });
    }
  }
  const [best] = [...candidates.values()].sort(
    (a, b) =>
      Number(b.exact) - Number(a.exact) ||
      Number(b.alive) - Number(a.alive) ||
      compareNames(b.image.name, a.image.name) ||
      compareNames(a.image.architecture, b.image.architecture),
  );
  if (!best) return undefined;
  const { name, architecture: chosen } = best.image;
  const offers = (agent: AgentRecord): boolean =>
    agent.images.some((image) => image.name === name && image.architecture === chosen);
  return { image: best.image, agents: agents.filter(offers) };
}

/** Numbers within names count as numbers: 3.9 before 3.11. */
const compareNames = new Intl.Collator('en', { numeric: true }).compare;

export function canonicalArchitecture(text: string): string {
  const lower = text.toLowerCase();
  if (lower === 'amd64' || lower === 'x64') return 'x86_64';
  if (lower === 'arm64') return 'aarch64';
  return lower;
}
