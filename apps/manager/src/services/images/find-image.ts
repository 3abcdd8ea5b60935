import type { Image } from '@backend.ai/contract';
import {
  canonicalArchitecture,
  compareNames,
  findCustomizedImage,
  findImageReference,
  readImageLabels,
} from '@backend.ai/core';
import type { AgentRecord } from '../../repositories/agents.ts';
import type { ImageRecord } from '../../repositories/images.ts';
import { fetchesFor, type KnownAgents } from '../agents/known-agents.ts';
import type { KnownImages } from './image-catalog.ts';
import { imageIdentity } from './image-offers.ts';

type OfferingAgents = Pick<KnownAgents, 'list' | 'offers' | 'fetching' | 'once'>;

/** One image for one architecture, wherever it is. */
export interface FoundImageRef {
  readonly image: Image;
  /** Agents that have it, or would fetch it, whether alive or not. */
  readonly agents: readonly AgentRecord[];
  /** Who has it; undefined: agents only. */
  readonly record: ImageRecord | undefined;
}

/** Who asks for an image. Of customized ones everybody sees the own, by the names that they gave them. */
export interface ImageViewer {
  readonly userId: string;
  /** Others', too. */
  readonly all: boolean;
}

export function maySeeImage({ userId, all }: ImageViewer, { name }: Pick<Image, 'name'>): boolean {
  const owner = findCustomizedImage(name)?.ownerId;
  return all || owner === undefined || owner === userId;
}

/** What only its owner calls it. */
export function ownNamesOf({ userId }: Pick<ImageViewer, 'userId'>, { name }: Pick<Image, 'name'>): string[] {
  const customized = findCustomizedImage(name);
  if (customized?.ownerId !== userId) return [];
  const plain = customized.name.replace(/:latest$/, '');
  return [...new Set([customized.name, plain])];
}

interface Candidate {
  readonly image: Image;
  readonly record: ImageRecord | undefined;
  /** How well it answers to the name: an alias that somebody gave, the canonical name, others, the owner's own. */
  readonly rank: number;
  /** An agent that is alive could start it. */
  readonly isReady: boolean;
}

/** As agents would offer it. */
export function imageOfRecord({ name, architecture, labels, digest }: ImageRecord): Image {
  const { language, minSlots, maxSlots, shmem, role, accelerators } = readImageLabels(labels);
  return {
    ...{ name, aliases: [], architecture, language, minSlots, maxSlots, shmem, role, digest },
    ...(accelerators.length > 0 ? { accelerators: [...accelerators] } : {}),
  };
}

export function offersImage(agent: AgentRecord, { name, architecture }: Pick<Image, 'name' | 'architecture'>): boolean {
  return agent.images.some((image) => image.name === name && image.architecture === architecture);
}

/** Agents that have the image or would fetch it. */
export function agentsFor(agents: OfferingAgents, image: Image, isKnownToRegistry: boolean): readonly AgentRecord[] {
  const key = `${isKnownToRegistry ? 'have or fetch' : 'have'} ${imageIdentity(image)}`;
  return agents.once(key, () => chooseFor(agents, image, isKnownToRegistry));
}

function chooseFor(agents: OfferingAgents, image: Image, isKnownToRegistry: boolean): readonly AgentRecord[] {
  const identity = imageIdentity(image);
  const { architecture } = image;
  const fetches = (agent: AgentRecord): boolean => isKnownToRegistry && fetchesFor(agent, architecture);
  const offers = agents.offers.filter((offer) => imageIdentity(offer.image) === identity);
  if (!isKnownToRegistry && offers.length <= 1) return offers[0]?.agents ?? [];
  // Nearly always: those who have it are among those who would fetch it.
  if (isKnownToRegistry && offers.every((offer) => offer.agents.every(fetches))) return agents.fetching(architecture);
  const having = new Set(offers.flatMap((offer) => offer.agents));
  return agents.list.filter((agent) => having.has(agent) || fetches(agent));
}

/**
 * What a user means by a name: an alias, a canonical name or a short one. Of several the one that could start now, and of
 * those the highest version.
 * @param architecture Canonical; undefined: any.
 */
export function findImage(
  agents: OfferingAgents,
  { images, aliases }: KnownImages,
  ref: string,
  architecture: string | undefined,
  viewer: ImageViewer,
): FoundImageRef | undefined {
  const named = new Set(
    aliases.flatMap((given) => (given.alias === ref ? [imageIdentity({ ...given, name: given.image })] : [])),
  );
  const short = findImageReference(ref);
  const isOwn = (image: Image): boolean => ownNamesOf(viewer, image).includes(ref);
  const candidates = new Map<string, Candidate>();
  const consider = (image: Image, record: ImageRecord | undefined, isShort: boolean, isReady: () => boolean): void => {
    const rank = named.has(imageIdentity(image)) ? 3 : image.name === ref ? 2 : isShort ? 1 : isOwn(image) ? 0 : -1;
    if (
      rank < 0 ||
      !maySeeImage(viewer, image) ||
      (architecture !== undefined && canonicalArchitecture(image.architecture) !== architecture)
    )
      return;
    const key = imageIdentity(image);
    const before = candidates.get(key) ?? { image, record, rank, isReady: false };
    candidates.set(key, {
      ...before,
      rank: Math.max(before.rank, rank),
      isReady: before.isReady || isReady(),
    });
  };
  for (const record of images) {
    const isShort =
      short !== undefined && !short.registry && record.repository === short.repository && record.tag === short.tag;
    if (!isShort && record.name !== ref && named.size === 0 && !findCustomizedImage(record.name)) continue;
    const image = imageOfRecord(record);
    consider(image, record, isShort, () => agentsFor(agents, image, true).some(({ status }) => status === 'ALIVE'));
  }
  for (const offer of agents.offers) {
    const isReady = (): boolean => offer.agents.some(({ status }) => status === 'ALIVE');
    consider(offer.image, undefined, offer.image.aliases.includes(ref), isReady);
  }
  const [best] = [...candidates.values()].sort(
    (a, b) =>
      b.rank - a.rank ||
      Number(b.isReady) - Number(a.isReady) ||
      compareNames(b.image.name, a.image.name) ||
      compareNames(a.image.architecture, b.image.architecture),
  );
  if (!best) return undefined;
  const { image, record } = best;
  return { image, record, agents: agentsFor(agents, image, record !== undefined) };
}
