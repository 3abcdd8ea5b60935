import type { CallContext, Image, ImageApi, ImageDetails, ImageRef, ImageView, UserActor } from '@backend.ai/contract';
import { AppError, canonicalArchitecture, compareNames, findCustomizedImage, readImageLabels } from '@backend.ai/core';
import type { AgentRecord } from '../../repositories/agents.ts';
import type { ImageRecord } from '../../repositories/images.ts';
import type { ImageOrigin } from '../../repositories/sessions.ts';
import type { AgentDirectory } from '../agents/agent-directory.ts';
import { actorOf } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import {
  agentsFor,
  type FoundImageRef,
  findImage,
  type ImageViewer,
  imageOfRecord,
  maySeeImage,
  offersImage,
  ownNamesOf,
} from './find-image.ts';
import type { ImageCatalog, KnownImages } from './image-catalog.ts';
import { imageIdentity } from './image-offers.ts';

export interface ResolvedImage {
  readonly image: Image;
  /** Agents that have it or would fetch it, whether alive or not. */
  readonly agents: readonly AgentRecord[];
  /** Where agents fetch it; null: only agents have it. */
  readonly origin: ImageOrigin | null;
}

/** The images that agents and registries offer, and which one a user means. */
export class ImageService implements Pick<ImageApi, 'list' | 'get'> {
  readonly #agents: AgentDirectory;
  readonly #catalog: ImageCatalog;

  constructor(agents: AgentDirectory, catalog: ImageCatalog) {
    this.#agents = agents;
    this.#catalog = catalog;
  }

  async list(ctx: CallContext): Promise<ImageView[]> {
    const viewer = viewerOf(actorOf(ctx));
    const [agents, known] = await Promise.all([this.#agents.known(), this.#catalog.known()]);
    const found = new Map<string, FoundImageRef>();
    for (const record of known.images) {
      const image = imageOfRecord(record);
      found.set(imageIdentity(image), { image, record, agents: agentsFor(agents, image, true) });
    }
    for (const { image } of agents.offers) {
      const key = imageIdentity(image);
      if (!found.has(key)) found.set(key, { image, record: undefined, agents: agents.list });
    }
    return [...found.values()]
      .filter(({ image }) => maySeeImage(viewer, image))
      .sort((a, b) => compareNames(imageIdentityForPeople(a.image), imageIdentityForPeople(b.image)))
      .map((each) => viewOf(each, known, viewer));
  }

  async get({ image, architecture }: ImageRef, ctx: CallContext): Promise<ImageDetails> {
    const viewer = viewerOf(actorOf(ctx));
    const found = await this.find(image, architecture, viewer);
    const labels = found.record?.labels ?? {};
    return {
      ...viewOf(found, await this.#catalog.known(), viewer),
      manifestDigest: found.record?.manifestDigest ?? null,
      servicePorts: readImageLabels(labels).servicePorts,
      labels,
      scannedAt: found.record ? toIso(found.record.scannedAt) : null,
    };
  }

  /** For a new session. @throws AppError `unknown-image`, `no-agent` */
  async resolve(ref: string, architecture: string | undefined, viewer: ImageViewer): Promise<ResolvedImage> {
    const { image, agents, record } = await this.find(ref, architecture, viewer);
    const origin = record && {
      registryId: record.registryId,
      digest: record.digest,
      manifestDigest: record.manifestDigest,
    };
    return { image, agents, origin: origin ?? null };
  }

  /**
   * What nobody is known to offer is looked up once more, for an agent may have registered, or a registry been scanned, at
   * another manager.
   * @throws AppError `unknown-image`, `no-agent`
   */
  async find(ref: string, architecture: string | undefined, viewer: ImageViewer): Promise<FoundImageRef> {
    const wanted = architecture === undefined ? undefined : canonicalArchitecture(architecture);
    const found = await this.findKnown(ref, wanted, viewer);
    if (found) return found;
    const [agents, images] = await Promise.all([this.#agents.reload(), this.#catalog.reload()]);
    const again = findImage(agents, images, ref, wanted, viewer);
    if (again) return again;
    if (agents.list.length === 0) throw new AppError('no-agent', 'No agent has joined the cluster yet.');
    throw unknownImage(ref, wanted, agents.list, images.images, viewer);
  }

  /** Among those that this process knows. @param architecture Canonical */
  async findKnown(
    ref: string,
    architecture: string | undefined,
    viewer: ImageViewer,
  ): Promise<FoundImageRef | undefined> {
    return findImage(...(await Promise.all([this.#agents.known(), this.#catalog.known()])), ref, architecture, viewer);
  }

  /** Names of the images that were made of sessions of a user, read anew. */
  async customizedBy(userId: string): Promise<string[]> {
    const [agents, known] = await Promise.all([this.#agents.reload(), this.#catalog.reload()]);
    const names = [...agents.offers.map(({ image }) => image), ...known.images].map(({ name }) => name);
    return [...new Set(names)].filter((name) => findCustomizedImage(name)?.ownerId === userId);
  }
}

/** What operators and this service itself look at. */
export const everything: ImageViewer = { userId: '', all: true };

export function viewerOf({ userId, role }: Pick<UserActor, 'userId' | 'role'>): ImageViewer {
  return { userId, all: role === 'superadmin' };
}

/** How many of the images that there are an error names. */
const maxNamed = 100;

function unknownImage(
  ref: string,
  architecture: string | undefined,
  agents: readonly AgentRecord[],
  records: readonly ImageRecord[],
  viewer: ImageViewer,
): AppError {
  const names = [...agents.flatMap(({ images }) => images), ...records]
    .filter((image) => maySeeImage(viewer, image))
    .map(({ name }) => name);
  return new AppError('unknown-image', `No agent or registry offers the image "${ref}".`, {
    data: {
      fields: { image: 'is offered by no agent or registry' },
      image: ref,
      ...(architecture === undefined ? {} : { architecture }),
      known: [...new Set(names)].sort().slice(0, maxNamed),
    },
  });
}

function viewOf({ image, agents, record }: FoundImageRef, { aliases }: KnownImages, viewer: ImageViewer): ImageView {
  const given = aliases.filter((each) => each.image === image.name && each.architecture === image.architecture);
  const short = record ? [`${record.repository}:${record.tag}`] : [];
  return {
    ...image,
    aliases: [
      ...new Set([...given.map(({ alias }) => alias), ...ownNamesOf(viewer, image), ...image.aliases, ...short]),
    ],
    registry: record?.registry ?? null,
    sizeBytes: record?.sizeBytes ?? null,
    installedAgents: agents.filter((agent) => offersImage(agent, image)).map(({ id }) => id),
    ownerId: findCustomizedImage(image.name)?.ownerId ?? null,
    warnings: record ? readImageLabels(record.labels).warnings : [],
  };
}

function imageIdentityForPeople({ name, architecture }: Image): string {
  return `${name} ${architecture}`;
}
