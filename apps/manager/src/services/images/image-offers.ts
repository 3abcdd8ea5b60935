import type { Image } from '@backend.ai/contract';
import type { AgentRecord } from '../../repositories/agents.ts';

/** An image, under the same aliases, with the agents that have it. */
export interface ImageOffer {
  readonly image: Image;
  readonly agents: readonly AgentRecord[];
}

export function imageIdentity({ name, architecture }: Pick<Image, 'name' | 'architecture'>): string {
  return `${architecture} ${name}`;
}

/** What agents have: hundreds of them have the same. In the order of the agents. */
export function offersOf(agents: readonly AgentRecord[]): ImageOffer[] {
  const offers = new Map<string, { image: Image; agents: AgentRecord[] }>();
  for (const agent of agents) {
    for (const image of agent.images) {
      const key = [imageIdentity(image), ...image.aliases].join('\n');
      const offer = offers.get(key);
      if (!offer) offers.set(key, { image, agents: [agent] });
      else if (offer.agents.at(-1) !== agent) offer.agents.push(agent);
    }
  }
  return [...offers.values()];
}
